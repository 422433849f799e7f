//! What the guest's kernel said while a scenario ran, and whether that fails it.

/// Lines no scenario may cause. Plain text, searched in each line.
const ALARMS: [&str; 13] = [
    "BUG:",
    "kernel BUG at",
    "Oops",
    "WARNING:",
    "Kernel panic",
    "general protection fault",
    "blocked for more than",
    "self-detected stall",
    "detected stalls on CPUs",
    "refcount_t:",
    "UBSAN:",
    "unregister_netdevice: waiting for",
    "page allocation failure",
];

/// The part of the log between the marks the agent wrote around a scenario; to the end if it never ended.
pub fn part<'a>(log: &'a str, name: &str) -> &'a str {
    let begin = format!("lab: begin {name}\n");
    let Some(at) = log.rfind(&begin) else {
        return "";
    };
    let rest = &log[at + begin.len()..];
    // The tidying after a scenario belongs to it.
    let ends = [
        format!("lab: clean {name}\n"),
        format!("lab: dirty {name} "),
    ];
    let end = ends
        .iter()
        .filter_map(|mark| rest.find(mark.as_str()))
        .min();
    let part = &rest[..end.unwrap_or(rest.len())];
    // The mark's own time stamp.
    if end.is_some() {
        &part[..part.rfind('\n').map_or(0, |n| n + 1)]
    } else {
        part
    }
}

/// The first alarming line that is not forgiven.
pub fn alarm<'a>(log: &'a str, forgiven: &[String]) -> Option<&'a str> {
    log.lines()
        .filter(|line| !line.contains("lab: "))
        .filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm)))
        .find(|line| !forgiven.iter().any(|text| line.contains(text.as_str())))
}

/// The last `n` lines.
pub fn tail(log: &str, n: usize) -> Vec<&str> {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(n)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[1.0] boot\n[2.0] lab: begin a\n[2.1] sd 0:0:0:0: [sda] WARNING: odd\n\
                       [3.0] lab: end a 0\n[3.1] tidy\n[3.2] lab: clean a\n[4.0] lab: begin ab\n[4.1] Oops: 0002\n";

    #[test]
    fn a_scenario_answers_for_its_own_lines_only() {
        assert_eq!(part(LOG, "a").lines().count(), 3);
        assert_eq!(part(LOG, "ab"), "[4.1] Oops: 0002\n");
        assert_eq!(part(LOG, "zz"), "");
    }

    #[test]
    fn alarms_are_found_and_can_be_forgiven_one_by_one() {
        assert_eq!(alarm(part(LOG, "ab"), &[]), Some("[4.1] Oops: 0002"));
        assert!(alarm(part(LOG, "a"), &[]).is_some());
        assert_eq!(
            alarm(part(LOG, "a"), &["[sda] WARNING: odd".to_owned()]),
            None
        );
        assert_eq!(alarm("[1.0] I/O error, dev sda\n", &[]), None);
    }

    #[test]
    fn the_tail_of_a_short_log_is_all_of_it() {
        assert_eq!(tail("a\nb\nc", 2), ["b", "c"]);
        assert_eq!(tail("a", 5), ["a"]);
    }
}
