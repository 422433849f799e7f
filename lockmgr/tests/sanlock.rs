//! The real program at work on areas that we wrote, and we on areas that it wrote. Its `direct` commands need no
//! daemon, no root and no configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use lockmgr::disk::{DirectDisk, Disk};
use lockmgr::ondisk::init::{self, Write};
use lockmgr::ondisk::{
    BallotBlock, DBLOCK_RELEASED, Dblock, DeltaSlot, Dump, Event, ForceMode, Found, Geometry,
    HostId, HostSector, ModeBlock, Name, PaxosLeader, Problem, RINDEX_DEFAULT_ENTRIES, RawLeader,
    Request, RindexEntry, RindexHeader,
};

/// The unpacked program; asked for once.
fn sanlock() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(kit::program::sanlock)
}

const AREAS: u64 = 4;
const GEOMETRIES: [Geometry; 2] = [Geometry::B512_M1, Geometry::B4096_M8];

/// A device of four areas, as a file that both programs open.
struct Device {
    path: PathBuf,
    geometry: Geometry,
}

impl Device {
    fn new(name: &str, geometry: Geometry) -> Device {
        let bytes = geometry.sector_bytes();
        let name = format!("sanlock-{name}-{bytes}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let file = fs::write(&path, vec![0; (AREAS * geometry.area_bytes()) as usize]);
        file.expect("a file beside the build's own");
        Device { path, geometry }
    }

    /// Where area `number` begins.
    fn area(&self, number: u64) -> u64 {
        number * self.geometry.area_bytes()
    }

    fn disk(&self) -> DirectDisk {
        let largest = self.geometry.area_bytes() as usize;
        DirectDisk::open(&self.path, largest).expect("direct I/O")
    }

    fn write(&self, base: u64, write: &Write) {
        let written = self.disk().write(base + write.offset, &write.bytes);
        written.expect("within the device");
    }

    fn read(&self, area: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.geometry.area_bytes() as usize];
        let read = self.disk().read(self.area(area), &mut bytes);
        read.expect("within the device");
        bytes
    }

    /// Changes one sector: what it is, and what it becomes.
    fn change(&self, at: u64, change: impl FnOnce(&mut [u8])) {
        let mut sector = vec![0; self.geometry.sector_bytes()];
        let mut disk = self.disk();
        disk.read(at, &mut sector).expect("within the device");
        change(&mut sector);
        disk.write(at, &sector).expect("within the device");
    }

    /// A lockspace `LS`, resources `RA` and `RB`, and one more free area.
    fn formatted(name: &str, geometry: Geometry) -> Device {
        let device = Device::new(name, geometry);
        for write in init::lockspace(geometry, &text("LS"), 10).expect("a sane order") {
            device.write(0, &write);
        }
        for (number, resource) in [(1, "RA"), (2, "RB")] {
            let write = init::resource(geometry, &text("LS"), &text(resource));
            device.write(device.area(number), &write.expect("a sane order"));
        }
        device
    }

    fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// `LS:what:path:offset`, as the real program names lockspaces and resources.
    fn place(&self, what: &str, offset: u64) -> String {
        format!("LS:{what}:{}:{offset}", self.path())
    }

    /// What we say of it, in the words of the real program.
    fn our_dump(&self) -> String {
        let mut lines = format!("{}\n", Dump::HEADING);
        for number in 0..AREAS {
            let dump = Dump::of(&self.read(number), self.area(number));
            lines.push_str(&dump.to_string());
        }
        lines
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn text(name: &str) -> Name {
    Name::new(name).expect("a short name")
}

fn host(number: u64) -> HostId {
    HostId::new(number).expect("a host")
}

/// Runs a `direct` command and returns what it prints.
fn direct(words: &[&str]) -> String {
    let output = Command::new(sanlock())
        .arg("direct")
        .args(words)
        .output()
        .expect("the real program runs");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

fn their_dump(device: &Device) -> String {
    direct(&["dump", &device.path(), "-f", "1"])
}

/// The result code of `read_leader` and the fields it printed.
fn read_leader(option: &str, place: &str) -> (i32, Vec<(String, String)>) {
    let printed = direct(&["read_leader", option, place]);
    let mut lines = printed.lines();
    let code = lines
        .next()
        .and_then(|line| line.strip_prefix("read_leader done "));
    let code = code.unwrap_or_else(|| panic!("no result: {printed}"));
    let fields = lines.map(|line| {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        (key.to_owned(), value.to_owned())
    });
    (code.parse().expect("a number"), fields.collect())
}

fn assert_same_leader(ours: &RawLeader, theirs: &[(String, String)]) {
    let fields = [
        ("magic", format!("{:#x}", ours.magic)),
        ("version", format!("{:#x}", ours.version.to_disk())),
        ("flags", format!("{:#x}", ours.flags.0)),
        ("sector_size", ours.sector_size.to_string()),
        ("num_hosts", ours.num_hosts.to_string()),
        ("max_hosts", ours.max_hosts.to_string()),
        ("owner_id", ours.owner_id.to_string()),
        ("owner_generation", ours.owner_generation.to_string()),
        ("lver", ours.lver.to_string()),
        ("space_name", ours.space_name.to_string()),
        ("resource_name", ours.resource_name.to_string()),
        ("timestamp", ours.timestamp.to_string()),
        ("checksum", format!("{:#x}", ours.checksum)),
        ("io_timeout", ours.io_timeout.to_string()),
    ];
    for (key, value) in fields {
        let their_value = theirs.iter().find(|(name, _)| name == key);
        let (_, their_value) = their_value.unwrap_or_else(|| panic!("no {key} in {theirs:?}"));
        // Later versions print the flags' names behind the number.
        let number = their_value.split(" [").next();
        assert_eq!(number, Some(&value[..]), "{key}");
    }
}

#[test]
fn areas_that_we_format_are_read() {
    for geometry in GEOMETRIES {
        let device = Device::formatted("read", geometry);
        assert_eq!(their_dump(&device), device.our_dump());
        for number in [1, 2, geometry.max_hosts()] {
            let (code, fields) = read_leader("-s", &device.place(&number.to_string(), 0));
            assert_eq!(code, 0);
            let slot = &device.read(0)[geometry.delta_slot(host(number)) as usize..];
            assert_same_leader(&RawLeader::read(slot).expect("a sector"), &fields);
        }
        for (area, name) in [(1, "RA"), (2, "RB")] {
            let (code, fields) = read_leader("-r", &device.place(name, device.area(area)));
            assert_eq!(code, 0);
            let leader = RawLeader::read(&device.read(area)).expect("a sector");
            assert_same_leader(&leader, &fields);
        }
    }
}

/// The two bytes behind a request record that the real program leaves as its memory was.
fn without_leftovers(geometry: Geometry, mut area: Vec<u8>) -> Vec<u8> {
    let start = geometry.request_sector() as usize;
    area[start + 20..start + geometry.sector_bytes()].fill(0);
    area
}

/// The first place where they differ, instead of megabytes.
fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).position(|(a, b)| a != b)
}

#[test]
fn what_we_format_is_what_it_formats() {
    for geometry in GEOMETRIES {
        let ours = Device::formatted("ours", geometry);
        let theirs = Device::new("theirs", geometry);
        let align = format!("{}M", geometry.align().mib());
        let size = geometry.sector_bytes().to_string();
        let sizes = ["-Z", &size, "-A", &align];
        let run = |words: &[&str], done: &str| {
            let printed = direct(&[words, &sizes[..]].concat());
            assert_eq!(printed.trim(), done, "{words:?}");
        };
        run(&["init", "-s", &theirs.place("0", 0)], "init done 0");
        for (area, name) in [(1, "RA"), (2, "RB")] {
            let place = theirs.place(name, theirs.area(area));
            run(&["init", "-r", &place], "init done 0");
        }
        assert_eq!(first_difference(&ours.read(0), &theirs.read(0)), None);
        for area in [1, 2] {
            let theirs = without_leftovers(geometry, theirs.read(area));
            assert_eq!(first_difference(&ours.read(area), &theirs), None);
        }

        // An index over what was there: header, guard, and the entries that it writes are those that we read.
        let base = ours.area(1);
        let index = format!("LS:{}:{base}", theirs.path());
        run(&["format", "-x", &index], "format done 0");
        let writes = init::rindex(geometry, &text("LS"), base, RINDEX_DEFAULT_ENTRIES);
        for write in writes.expect("a sane order") {
            ours.write(base, &write);
        }
        assert_eq!(first_difference(&ours.read(1), &theirs.read(1)), None);
        let guard = without_leftovers(geometry, theirs.read(2));
        assert_eq!(first_difference(&ours.read(2), &guard), None);
    }
}

#[test]
fn an_index_is_shared() {
    let geometry = Geometry::B512_M1;
    let device = Device::new("index", geometry);
    let base = 0;
    let writes = init::rindex(geometry, &text("LS"), base, 100).expect("a sane order");
    for write in &writes {
        device.write(base, write);
    }
    let header = RindexHeader::parse(&device.read(0)).expect("our own");
    let index = format!("LS:{}:{base}", device.path());
    let lookup = |name: &str| direct(&["lookup", "-x", &index, "-e", name]);

    // Ours, found by the real program.
    let at = |entry| header.resource_offset(entry).expect("on the device");
    let mine = RindexEntry::Used {
        name: text("mine"),
        flags: 0,
    };
    device.change(base + header.entry_sector(1), |sector| {
        header.put_entry(sector, 1, &mine);
    });
    let found = format!("lookup done 0\nname mine offset {}\n", at(1));
    assert_eq!(lookup("mine"), found);
    assert_eq!(lookup("nobody's"), "lookup done -2\n");

    // Theirs, found by us.
    let entry = format!("theirs:{}", at(0));
    let printed = direct(&["update", "-x", &index, "-e", &entry]);
    assert_eq!(printed, "update done 0\n");
    let area = device.read(0);
    let theirs = RindexEntry::Used {
        name: text("theirs"),
        flags: 0,
    };
    let entries: Vec<_> = header
        .entries(&area)
        .filter(|(_, entry)| *entry != Ok(RindexEntry::Free))
        .collect();
    assert_eq!(entries, [(0, Ok(theirs)), (1, Ok(mine))]);
}

#[test]
fn a_busy_lockspace_reads_alike() {
    for geometry in GEOMETRIES {
        let device = Device::formatted("busy", geometry);
        let hosts = [1, 2, 7, geometry.max_hosts()].map(host);
        for (i, &host) in (1..).zip(&hosts) {
            device.change(geometry.delta_slot(host), |sector| {
                let mut slot = DeltaSlot::parse(sector).expect("our own");
                slot.lease.owner_id = host.number();
                slot.lease.owner_generation = 10 * i;
                slot.lease.host_name = text(&"long-name-of-a-host-".repeat(3)[..48]);
                slot.lease.timestamp = 1_000_000_007 * i;
                slot.lease.io_timeout = 20;
                slot.lease.event = Event {
                    generation: 1,
                    number: 2,
                    data: u64::MAX,
                };
                slot.notify.insert(hosts[1]);
                slot.notify.insert(hosts[3]);
                slot.emit(sector);
            });
        }
        let owner = hosts[2];
        let base = device.area(1);
        let stride = geometry.max_hosts();
        let ballot = BallotBlock {
            mbal: 3 * stride + owner.number(),
            bal: 3 * stride + owner.number(),
            inp: owner.number(),
            inp2: 30,
            inp3: 12_345,
            lver: 99,
        };
        device.change(base, |sector| {
            let mut leader = PaxosLeader::parse(sector).expect("our own");
            leader.owner_id = ballot.inp;
            leader.owner_generation = ballot.inp2;
            leader.timestamp = ballot.inp3;
            leader.lver = ballot.lver;
            leader.write_id = ballot.inp;
            leader.write_generation = ballot.inp2;
            leader.write_timestamp = ballot.inp3;
            leader.emit(sector);
        });
        device.change(base + geometry.request_sector(), |sector| {
            let mut request = Request::parse(sector).expect("our own");
            request.lver = 100;
            request.force_mode = ForceMode::Graceful;
            request.emit(sector);
        });
        let sectors = [
            (base, owner, 0, ModeBlock::NONE),
            (
                device.area(2),
                hosts[0],
                DBLOCK_RELEASED,
                ModeBlock::of_shared(10),
            ),
            (
                device.area(2),
                hosts[3],
                DBLOCK_RELEASED,
                ModeBlock::of_shared(40),
            ),
        ];
        for (area, host, flags, mode) in sectors {
            device.change(area + geometry.host_sector(host), |sector| {
                let dblock = Dblock::Voted { ballot, flags };
                HostSector { dblock, mode }.emit(sector);
            });
        }
        let ours = device.our_dump();
        assert_eq!(their_dump(&device), ours);
        assert_eq!(ours.lines().filter(|line| line.ends_with(" SH")).count(), 2);
        assert!(ours.contains(" 99/100/2\n"), "{ours}");
        let (code, fields) = read_leader("-r", &device.place("RA", base));
        assert_eq!(code, 0);
        let leader = RawLeader::read(&device.read(1)).expect("a sector");
        assert_same_leader(&leader, &fields);
    }
}

#[test]
fn both_refuse_the_same_records() {
    let geometry = Geometry::B512_M1;
    type Damage = fn(&mut RawLeader);
    let damages: [(&str, i32, Damage); 5] = [
        ("magic", -223, |leader| leader.magic ^= 1),
        ("version", -224, |leader| leader.version.major += 3),
        ("space_name", -226, |leader| {
            leader.space_name = text("other")
        }),
        ("resource_name", -227, |leader| {
            leader.resource_name = text("other")
        }),
        ("checksum", -229, |leader| leader.checksum ^= 1),
    ];
    for (field, their_code, damage) in damages {
        let device = Device::formatted(field, geometry);
        let base = device.area(1);
        device.change(base, |sector| {
            let mut leader = RawLeader::read(sector).expect("a sector");
            damage(&mut leader);
            if field != "checksum" {
                leader = leader.summed();
            }
            sector[..200].copy_from_slice(&leader.emit());
        });
        let (code, _) = read_leader("-r", &device.place("RA", base));
        let refused = PaxosLeader::parse(&device.read(1))
            .and_then(|leader| leader.verify_names(&text("LS"), &text("RA")))
            .expect_err("it is damaged");
        assert_eq!((refused.field.name, code), (field, their_code));
    }

    let device = Device::formatted("cleared", geometry);
    let base = device.area(1);
    let cleared = init::clear_resource(geometry, &text("LS"), &text("RA"), 77);
    device.write(base, &cleared);
    let (code, _) = read_leader("-r", &device.place("RA", base));
    let refused = PaxosLeader::parse(&device.read(1)).expect_err("it was deleted");
    assert_eq!((refused.problem, code), (Problem::Cleared, -223));
    assert!(matches!(
        Found::at(&device.read(1)),
        Some(Found::Cleared(_))
    ));
}
