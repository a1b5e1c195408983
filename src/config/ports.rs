//! The media ports against those that the kernel gives to anyone.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// What the kernel takes the port of a socket from that did not ask for one.
pub const EPHEMERAL_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What it leaves out of that.
pub const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The kernel's ephemeral ports; `None` where it does not say.
pub fn ephemeral(read: &dyn Fn(&Path) -> io::Result<String>) -> Option<RangeInclusive<u16>> {
    let text = read(Path::new(EPHEMERAL_FILE)).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// The kernel's range, when it may give away a port of `range`.
pub fn taken_by_kernel(range: &RangeInclusive<u16>, read: &dyn Fn(&Path) -> io::Result<String>) -> Option<RangeInclusive<u16>> {
    let kernel = ephemeral(read)?;
    let reserved = read(Path::new(RESERVED_FILE)).unwrap_or_default();
    let reserved: Vec<RangeInclusive<u16>> = reserved.trim().split(',').filter_map(reserved_range).collect();
    let mut both = *range.start().max(kernel.start())..=*range.end().min(kernel.end());
    both.any(|port| !reserved.iter().any(|r| r.contains(&port))).then_some(kernel)
}

fn reserved_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some(low.trim().parse().ok()?..=high.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(range: &'static str, reserved: &'static str) -> impl Fn(&Path) -> io::Result<String> {
        move |path| match path.to_str() {
            Some(EPHEMERAL_FILE) if !range.is_empty() => Ok(range.to_owned()),
            Some(RESERVED_FILE) => Ok(reserved.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn the_kernel_may_take_what_lies_in_its_range_and_is_not_reserved() {
        assert_eq!(taken_by_kernel(&(10000..=29999), &kernel("32768\t60999\n", "\n")), None);
        assert_eq!(taken_by_kernel(&(10000..=32769), &kernel("32768\t60999\n", "\n")), Some(32768..=60999));
        assert_eq!(taken_by_kernel(&(60998..=61001), &kernel("32768\t60999\n", "\n")), Some(32768..=60999));
        assert_eq!(taken_by_kernel(&(40000..=40003), &kernel("32768\t60999\n", "8080,40000-40001,40002-50000\n")), None);
        assert_eq!(taken_by_kernel(&(40000..=40003), &kernel("32768\t60999\n", "40000-40002\n")), Some(32768..=60999));
        assert_eq!(taken_by_kernel(&(40000..=40003), &kernel("", "")), None);
        assert_eq!(taken_by_kernel(&(40000..=40003), &kernel("nonsense", "")), None);
    }
}
