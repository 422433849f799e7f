//! The porter with files, of which one hangs for as long as the test likes.

use std::path::Path;

use crossbeam_channel::TryRecvError;
use lockmgr::{IoId, Writers};

use super::*;

const AREA: usize = 1 << 20;

struct World {
    dir: tempfile::TempDir,
    elsewhere: Elsewhere,
    porter: Porter,
    orders: Receiver<Order>,
    ended: Receiver<(DiskId, Ended)>,
    answers: Receiver<Answer>,
}

/// A lockspace's own disk of which every job is seen.
struct Home(Sender<Job>);

impl LeaseDisk for Home {
    fn start(&mut self, job: Job) {
        self.0.send(job).unwrap();
    }
}

fn later() -> Instant {
    now() + Duration::from_secs(3600)
}

fn write(id: IoId, at: u64, content: u8) -> Job {
    Job::Write {
        id,
        offset: at,
        bytes: vec![content; 512].into(),
        deadline: later(),
        writers: Writers::Many,
    }
}

fn read(id: IoId, at: u64, len: usize) -> Job {
    Job::Read {
        id,
        offset: at,
        len,
        deadline: later(),
    }
}

impl World {
    fn new() -> World {
        // On a file system with direct I/O: that of the build.
        let program = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let (orders, inbox) = unbounded();
        let (tell, ended) = unbounded();
        let (answer, answers) = unbounded();
        let known: Arc<Mutex<Known>> = Arc::default();
        let porter = Porter {
            known: Arc::clone(&known),
            desks: BTreeMap::new(),
            answers: answer,
            tell,
        };
        World {
            dir,
            elsewhere: Elsewhere { known, orders },
            porter,
            orders: inbox,
            ended,
            answers,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// A file with room for two areas, and its number.
    fn file(&mut self, name: &str) -> DiskId {
        let path = self.path(name);
        std::fs::write(&path, vec![7; 2 * AREA]).unwrap();
        let id = self.admit(&path);
        self.obey();
        id
    }

    fn admit(&self, path: &Path) -> DiskId {
        let device = Device::at(path).unwrap();
        let place = Place {
            path: path.to_owned(),
            offset: 0,
        };
        let disk = DirectDisk::open(path, 0).unwrap();
        self.elsewhere.admit(device, place, disk).unwrap()
    }

    /// The porter does what it was told.
    fn obey(&mut self) {
        for order in self.orders.try_iter() {
            match order {
                Order::Open(id, disk) => self.porter.open(id, disk),
                Order::Start(id, job) => self.porter.take(id, job),
            }
        }
    }

    /// A thread comes back.
    fn comes_back(&mut self) -> DiskId {
        let (id, ended) = self.ended.recv().unwrap();
        self.porter.ended(id, ended);
        id
    }

    /// Everything that the keeper was told, in short: device and number.
    fn told(&self) -> Vec<String> {
        let name = |id: IoId| {
            format!("{id:?}")
                .replace("IoId(DiskId", "")
                .replace("))", ")")
        };
        let short = |answer| match answer {
            Answer::Read { id, data: Ok(data) } => format!("read {} {}", name(id), data[0]),
            Answer::Read { id, data: Err(_) } => format!("no read {}", name(id)),
            Answer::Wrote { id, outcome } => format!("{outcome:?} {}", name(id)),
            Answer::Fenced { through } => format!("fenced {}", name(through)),
            Answer::Settled { id } => format!("settled {}", name(id)),
        };
        self.answers.try_iter().map(short).collect()
    }
}

#[test]
fn offsets_tell_devices_apart() {
    let mut world = World::new();
    let (b, c) = (world.file("b"), world.file("c"));
    let (tell, home) = unbounded();
    let mut disk = world.elsewhere.beside(Box::new(Home(tell)));
    let at = |disk, offset| LeaseId::on(disk, offset).unwrap().0;
    disk.start(read(IoId::new(1), 4096, 512));
    disk.start(write(IoId::on(b, 2), at(b, 512), 9));
    disk.start(write(IoId::on(c, 3), at(c, AREA as u64), 8));
    let Ok(Job::Read { offset: 4096, .. }) = home.try_recv() else {
        panic!("it is the lockspace's own");
    };
    assert_eq!(home.try_recv().map(drop), Err(TryRecvError::Empty));
    world.obey();
    world.comes_back();
    world.comes_back();
    let mut told = world.told();
    told.sort();
    assert_eq!(told, ["Done (1), 2)", "Done (2), 3)"]);
    let content = |name: &str, at: usize| std::fs::read(world.path(name)).unwrap()[at];
    let there = [("b", 511), ("b", 512), ("c", AREA), ("c", 512)];
    let found = there.map(|(name, at)| content(name, at));
    assert_eq!(found, [7, 9, 8, 7]);
    // Larger than what was done there before.
    disk.start(read(IoId::on(b, 4), at(b, 512), AREA));
    world.obey();
    world.comes_back();
    assert_eq!(world.told(), ["read (1), 4) 9"]);
}

#[test]
fn one_that_hangs_keeps_nobody_else_waiting() {
    let mut world = World::new();
    let (b, c) = (world.file("b"), world.file("c"));
    let hanging = Arc::clone(&world.porter.desks[&b].disk);
    let hang = hanging.lock().unwrap();
    world.porter.take(b, write(IoId::on(b, 1), 0, 1));
    world.porter.take(b, write(IoId::on(b, 2), 0, 2));
    world.porter.take(c, write(IoId::on(c, 3), 0, 3));
    assert_eq!(world.comes_back(), c);
    assert_eq!(world.told(), ["Done (2), 3)"]);
    let desk = world.porter.desks.get_mut(&b).unwrap();
    desk.clerk.expire(later());
    let lost = ["Unknown (1), 1)", "Unknown (1), 2)", "fenced (1), 2)"];
    assert_eq!(world.told(), lost[..2], "the first may still land");
    // It is not closed under its thread, however long that takes.
    let long = later() + Duration::from_secs(3600);
    world.porter.close_unused(long);
    assert_eq!(world.porter.desks.keys().collect::<Vec<_>>(), [&b]);
    drop(hang);
    assert_eq!(world.comes_back(), b);
    assert_eq!(world.told(), lost[2..]);
    let content = std::fs::read(world.path("b")).unwrap()[0];
    assert_eq!(content, 1, "the second was late before it started");
}

#[test]
fn a_device_is_open_as_long_as_it_is_in_use() {
    let mut world = World::new();
    let (b, c) = (world.file("b"), world.file("c"));
    assert_eq!((b, c), (DiskId(1), DiskId(2)));
    assert_eq!(world.admit(&world.path("b")), b, "by whatever path");
    let lease = LeaseId::on(c, AREA as u64).unwrap();
    let place = world.elsewhere.place(lease).unwrap();
    assert_eq!((place.path, place.offset), (world.path("c"), AREA as u64));
    world.porter.close_unused(now());
    assert_eq!(world.porter.desks.len(), 2);
    // The keeper holds a lease on the one; what is told ahead of its time stands for time that passes.
    let unused = now() + LINGER;
    let mut known = world.elsewhere.known();
    known.entries.get_mut(&c).unwrap().used = unused;
    drop(known);
    world.porter.close_unused(unused);
    assert_eq!(world.porter.desks.keys().collect::<Vec<_>>(), [&c]);
    let device = Device::at(&world.path("b")).unwrap();
    assert_eq!(world.elsewhere.find(device), None);
    // What is late with its number touches nothing, and the number is not soon another's.
    world.porter.take(b, write(IoId::on(b, 1), 0, 1));
    world.porter.take(b, read(IoId::on(b, 2), 0, 512));
    let late = ["Unknown (1), 1)", "fenced (1), 1)", "no read (1), 2)"];
    assert_eq!(world.told(), late);
    assert_eq!(world.admit(&world.path("b")), DiskId(3));
    let mut disk = world.elsewhere.beside(Box::new(Home(unbounded().0)));
    let before = world.elsewhere.known().entries[&c].used;
    disk.in_use(&mut [lease].into_iter());
    assert_ne!(world.elsewhere.known().entries[&c].used, before);
}

#[test]
fn there_are_as_many_as_leases() {
    let mut world = World::new();
    world.file("b");
    let path = world.path("b");
    let device = |inode| Device::File(0, inode);
    let place: Place = "b".parse().unwrap();
    let open = || DirectDisk::open(&path, 0).unwrap();
    for inode in 1..LEASES_MAX as u64 {
        let admitted = world.elsewhere.admit(device(inode), place.clone(), open());
        assert!(admitted.is_ok());
        // Descriptors are for others, too.
        world.orders.try_iter().for_each(drop);
    }
    let one_more = world.elsewhere.admit(device(0), place, open());
    assert_eq!(one_more, Err(Full));
}
