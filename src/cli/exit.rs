//! The exit codes, as `--help` shows them. They are an interface: [`crate::failure::Kind`] has the numbers.

/// Printed at the end of `sanblk --help`.
pub const HELP: &str = "\
Exit codes:
   0  done
   1  failed
   2  wrong command line, configuration or CHAP file; nothing was tried
   3  no such volume, target, LUN, device, lease area or lease held here
   4  refused: in use, already on this host by other means, or not free for leases
   5  the daemon does not answer, or is of another version
   6  several targets or LUNs fit: add --target, --lun
   7  no portal answers
   8  the target refuses us (authentication, access list)
   9  this kernel cannot (no ublk driver, io_uring off, a kernel that must not be used)
  10  a step did not end in time
  11  another host holds the lease";

#[cfg(test)]
mod tests {
    use crate::failure::Kind;

    #[test]
    fn every_kind_has_its_line() {
        let kinds = [
            Kind::Failed,
            Kind::Usage,
            Kind::NotFound,
            Kind::Refused,
            Kind::Daemon,
            Kind::Ambiguous,
            Kind::Unreachable,
            Kind::Denied,
            Kind::Kernel,
            Kind::TimedOut,
            Kind::Held,
        ];
        let mut codes: Vec<u8> = kinds.iter().map(|kind| kind.exit_code()).collect();
        codes.dedup();
        assert_eq!(codes, (1..=11).collect::<Vec<u8>>());
        for code in codes {
            assert!(super::HELP.contains(&format!("\n  {code:2}  ")), "{code}");
        }
    }
}
