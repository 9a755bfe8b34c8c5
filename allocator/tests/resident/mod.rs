//! What the kernel says of the memory of this process.

/// How much memory this process has, in bytes.
pub(crate) fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: usize = number
        .and_then(|kib| kib.parse().ok())
        .expect("a number of KiB");
    kib << 10
}
