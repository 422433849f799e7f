//! Our dump beside the real tool's, line for line.
//!
//! The tool ran a moment after the image was taken, while hosts renewed their leases: a delta lease may be younger in
//! its output and call other hosts. Then our record, given that time, must come to the line and the checksum that the
//! tool printed.

use std::collections::HashMap;

use lockmgr::ondisk::{
    BadRecord, DELTA_MAGIC, DeltaLease, DeltaSlot, Dump, Found, HostId, HostSet, Name, PaxosLeader,
    Problem, RawLeader,
};

use crate::fixtures::Fixture;

/// Our text for what the real tool shows: it ends at the first area that is neither lockspace nor resource.
fn our_dump(device: &[u8]) -> String {
    let mut text = format!("{}\n", Dump::HEADING);
    let mut at = 0;
    while let Some(Found::Lockspace(raw) | Found::Resource(raw)) = Found::at(&device[at..]) {
        text.push_str(&Dump::of(&device[at..], at as u64).to_string());
        at += raw.geometry().expect("a geometry").area_bytes() as usize;
        if at == device.len() {
            break;
        }
    }
    text
}

/// Gives the delta lease of this line of the real tool the time and the called hosts that the line says.
fn let_time_pass(device: &mut [u8], line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let at = number(words[0]) as usize;
    let size = Found::at(device)
        .and_then(|f| f.geometry())
        .expect("one")
        .sector_bytes();
    let sector = &mut device[at..at + size];
    let mut slot = DeltaSlot::parse(sector).expect("a whole slot");
    let time = number(words[3]);
    assert!(slot.lease.timestamp < time, "{line}");
    slot.lease.timestamp = time;
    slot.notify = HostSet::EMPTY;
    for called in words[6..].iter().filter(|word| !word.starts_with("0x")) {
        slot.notify
            .insert(HostId::new(number(called)).expect("a host"));
    }
    slot.emit(sector);
}

#[test]
fn text_is_that_of_the_real_tool() {
    let mut lines = 0;
    let mut younger = 0;
    for mut fixture in Fixture::all() {
        let (command, theirs) = fixture.outputs().swap_remove(0);
        assert!(command.starts_with("sanlock direct dump"));
        let before = our_dump(&fixture.bytes);
        for line in theirs.iter().skip(1) {
            let is_delta = !line.contains('/') && !line.ends_with("SH");
            if is_delta && !before.lines().any(|ours| ours == line) {
                let_time_pass(&mut fixture.bytes, line);
                younger += 1;
            }
        }
        let text = our_dump(&fixture.bytes);
        let is_damage = |line: &&str| line.starts_with('!');
        let damaged = text.lines().filter(is_damage).count();
        let trapped = ["s4k1m-04", "s4k1m-05"]
            .iter()
            .any(|n| fixture.name.starts_with(n));
        assert_eq!(damaged, usize::from(trapped), "{}\n{text}", fixture.name);
        let ours: Vec<&str> = text.lines().filter(|line| !is_damage(line)).collect();
        assert_eq!(ours, theirs, "{}", fixture.name);
        lines += ours.len();
    }
    assert_eq!((lines, younger), (299, 3));
}

struct LeaderOutput {
    code: i32,
    fields: HashMap<String, String>,
}

impl LeaderOutput {
    fn of(lines: &[String]) -> LeaderOutput {
        let code = lines[0]
            .strip_prefix("read_leader done ")
            .expect("a result");
        let fields = lines[1..].iter().map(|line| {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            (key.to_owned(), value.to_owned())
        });
        LeaderOutput {
            code: code.parse().expect("a number"),
            fields: fields.collect(),
        }
    }

    /// A number, decimal or with 0x; flags may be followed by their names.
    fn number(&self, key: &str) -> u64 {
        let value = self.fields[key].split(' ').next().expect("a value");
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => value.parse(),
        }
        .unwrap_or_else(|e| panic!("{key} {value}: {e}"))
    }

    fn check(&self, leader: &RawLeader) {
        let is_delta = leader.magic == DELTA_MAGIC;
        let mut numbers = vec![
            ("magic", u64::from(leader.magic)),
            ("version", u64::from(leader.version.to_disk())),
            ("flags", u64::from(leader.flags.0)),
            ("sector_size", u64::from(leader.sector_size)),
            ("num_hosts", leader.num_hosts),
            ("max_hosts", leader.max_hosts),
            ("owner_id", leader.owner_id),
            ("owner_generation", leader.owner_generation),
            ("lver", leader.lver),
            ("timestamp", leader.timestamp),
            ("checksum", u64::from(leader.checksum)),
            ("io_timeout", u64::from(leader.io_timeout)),
        ];
        let last = [
            leader.write_id,
            leader.write_generation,
            leader.write_timestamp,
        ];
        let names = match is_delta {
            true => ["extra1", "extra2", "extra3"],
            false => ["write_id", "write_generation", "write_timestamp"],
        };
        numbers.extend(names.into_iter().zip(last));
        if self.fields.contains_key("unused1") {
            numbers.push(("unused1", leader.unused1));
        }
        for (key, ours) in numbers {
            assert_eq!(ours, self.number(key), "{key}");
        }
        assert_eq!(leader.space_name.to_string(), self.fields["space_name"]);
        assert_eq!(
            leader.resource_name.to_string(),
            self.fields["resource_name"]
        );
        if let Some((_, names)) = self.fields["flags"].split_once(" [ ") {
            let mut theirs: Vec<_> = names.trim_end_matches(" ]").split(' ').collect();
            let mut ours: Vec<_> = leader.flags.names().collect();
            theirs.sort_unstable();
            ours.sort_unstable();
            assert_eq!(ours, theirs);
        }
    }
}

/// The real tool's code for what we refuse.
fn code_of(result: Result<(), BadRecord>) -> i32 {
    match result.map_err(|bad| (bad.field.name, bad.problem)) {
        Ok(()) => 0,
        Err(("space_name", Problem::Name { .. })) => -226,
        Err(("resource_name", Problem::Name { .. })) => -227,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn leaders_read_as_by_the_real_tool() {
    let mut leaders = 0;
    for fixture in Fixture::all() {
        for (command, lines) in fixture.outputs() {
            let Some(what) = command.strip_prefix("sanlock direct read_leader ") else {
                continue;
            };
            let output = LeaderOutput::of(&lines);
            let (option, place) = what.split_once(' ').expect("an option and a place");
            let parts: Vec<&str> = place.split(':').collect();
            let offset: usize = parts[3].parse().expect("an offset");
            let area = &fixture.bytes[offset..];
            let space = Name::new(parts[0]).expect("a name");
            let (leader, result) = match option {
                "-s" => {
                    let host = HostId::new(parts[1].parse().expect("a host")).expect("a host");
                    let geometry = Found::at(area).and_then(|f| f.geometry()).expect("one");
                    let slot = &area[geometry.delta_slot(host) as usize..];
                    let lease = DeltaLease::parse(slot).expect("a whole lease");
                    let mut leader = lease.raw();
                    if leader.timestamp != output.number("timestamp") {
                        leader.timestamp = output.number("timestamp");
                        leader = leader.summed();
                    }
                    (leader, lease.verify_space(&space))
                }
                "-r" => {
                    let leader = PaxosLeader::parse(area).expect("a whole leader");
                    let resource = Name::new(parts[1]).expect("a name");
                    (leader.raw(), leader.verify_names(&space, &resource))
                }
                other => panic!("option {other}"),
            };
            output.check(&leader);
            assert_eq!(code_of(result), output.code, "{}: {command}", fixture.name);
            leaders += 1;
        }
    }
    assert_eq!(leaders, 140);
}

#[test]
fn what_the_real_tool_leaves_out_is_shown() {
    let fixture = Fixture::load("s512-22-rindex-one-deleted");
    let text: String = [3 << 20, 4 << 20, 6 << 20]
        .into_iter()
        .map(|at| Dump::of(&fixture.bytes[at..], at as u64).to_string())
        .collect();
    let wanted = "\
03145728                                   LS                                               RC 0000000000 0000 0000 0/0/0
! resource leader refused: magic at byte 3145728: the resource was deleted
04194304                                   LS index of 4096 resources
                                                                                       res-two at 7340032
06291456                                   LS                                          res-one 0000000000 0000 0000 0/0/0
! resource leader refused: magic at byte 6291456: the resource was deleted
";
    assert_eq!(text, wanted);
}
