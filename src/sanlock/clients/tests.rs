//! The books, wish by wish.

use proptest::prelude::*;

use super::*;
use crate::sanlock::wire::structs::Resource;

const NONE: AcquireFlags = AcquireFlags(0);
const PERSISTENT: ResourceFlags = ResourceFlags::PERSISTENT;
const SHARED: ResourceFlags = ResourceFlags::SHARED;
const ALONE: ResourceFlags = ResourceFlags(0);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn key(resource: &str) -> Key {
    Key {
        space: name("LS"),
        name: name(resource),
    }
}

fn placed(resource: &str, flags: ResourceFlags) -> PlacedResource {
    PlacedResource {
        resource: Resource {
            lockspace: name("LS"),
            name: name(resource),
            lver: 0,
            data64: 0,
            data32: 0,
            flags,
            num_disks: 1,
        },
        disks: vec![Disk {
            path: "/dev/x".into(),
            offset: 1 << 20,
        }],
    }
}

struct Books(Registry);

impl Books {
    fn new() -> Books {
        Books(Registry::default())
    }

    fn client(&mut self) -> ClientId {
        let client = self.0.connect(77);
        self.0.register(client);
        client
    }

    fn wish(
        &mut self,
        client: ClientId,
        flags: ResourceFlags,
        how: AcquireFlags,
    ) -> Result<Wish, Refusal> {
        let placed = placed("R", flags);
        let (id, geometry) = (LeaseId(1 << 20), Geometry::B512_M1);
        self.0.wish(client, &placed, how, id, geometry)
    }

    fn holds(&mut self, client: ClientId, flags: ResourceFlags) {
        assert_eq!(self.wish(client, flags, NONE), Ok(Wish::Ask));
        self.0.acquired(key("R"), 1);
    }
}

#[test]
fn wishes_by_what_is_there() {
    use Refusal as R;
    let (orphan, only) = (AcquireFlags::ORPHAN, AcquireFlags::ORPHAN_ONLY);
    /// What is there before the wish of another client.
    #[derive(Clone, Copy, Debug)]
    enum There {
        Nothing,
        Adding,
        Held(ResourceFlags),
        Removing,
        Orphan(ResourceFlags),
    }
    use There as T;
    for (there, wanted, how, answer) in [
        (T::Nothing, ALONE, NONE, Ok(Wish::Ask)),
        (T::Nothing, ALONE, orphan, Ok(Wish::Ask)),
        (T::Nothing, ALONE, only, Err(R::NotFound)),
        (T::Adding, SHARED, NONE, Err(R::Busy)),
        (T::Held(ALONE), ALONE, NONE, Err(R::Exists)),
        (T::Held(ALONE), SHARED, NONE, Err(R::Exists)),
        (T::Held(SHARED), ALONE, NONE, Err(R::Exists)),
        (T::Held(SHARED), SHARED, NONE, Ok(Wish::Granted)),
        (T::Removing, SHARED, NONE, Err(R::Again)),
        (T::Orphan(ALONE), ALONE, NONE, Err(R::Unclean)),
        (T::Orphan(SHARED), SHARED, NONE, Err(R::Unclean)),
        (T::Orphan(ALONE), ALONE, orphan, Ok(Wish::Granted)),
        (T::Orphan(SHARED), SHARED, only, Ok(Wish::Granted)),
        (T::Orphan(ALONE), SHARED, only, Err(R::Unclean)),
        (T::Orphan(SHARED), ALONE, orphan, Err(R::Unclean)),
    ] {
        let mut books = Books::new();
        let (one, two) = (books.client(), books.client());
        match there {
            There::Nothing => {}
            There::Adding => {
                assert_eq!(books.wish(one, ALONE, NONE), Ok(Wish::Ask));
            }
            There::Held(flags) => books.holds(one, flags),
            There::Removing => {
                books.holds(one, ALONE);
                assert_eq!(books.0.part(one, key("R")), Ok(Parting::LetGo));
            }
            There::Orphan(flags) => {
                books.holds(one, flags.with(PERSISTENT));
                assert_eq!(books.0.leave(one), []);
                assert!(books.0.lease(key("R")).unwrap().is_orphan());
            }
        }
        assert_eq!(
            books.wish(two, wanted, how),
            answer,
            "{there:?} {wanted:?} {how:?}"
        );
    }
}

#[test]
fn the_same_client_has_a_lease_once() {
    let mut books = Books::new();
    let one = books.client();
    books.holds(one, SHARED);
    assert_eq!(books.wish(one, SHARED, NONE), Err(Refusal::Exists));
}

#[test]
fn the_last_one_that_shares_lets_go() {
    let mut books = Books::new();
    let (one, two) = (books.client(), books.client());
    books.holds(one, SHARED);
    assert_eq!(books.wish(two, SHARED, NONE), Ok(Wish::Granted));
    assert_eq!(books.0.users(name("LS")), [one, two]);
    assert_eq!(books.0.part(one, key("R")), Ok(Parting::StillShared));
    assert_eq!(books.0.part(one, key("R")), Err(Refusal::Failed));
    assert_eq!(books.0.leave(two), [key("R")]);
    assert_eq!(books.0.lease(key("R")).unwrap().phase, Phase::Removing);
    books.0.forget(key("R"));
    assert!(!books.0.uses(name("LS")));
}

#[test]
fn orphans_are_adopted_or_dropped() {
    let mut books = Books::new();
    let one = books.client();
    books.holds(one, PERSISTENT);
    books.0.leave(one);
    assert!(books.0.has_orphans(name("LS")));
    let two = books.client();
    let only = AcquireFlags::ORPHAN_ONLY;
    assert_eq!(books.wish(two, PERSISTENT, only), Ok(Wish::Granted));
    assert!(!books.0.has_orphans(name("LS")));
    assert_eq!(books.0.drop_orphans(name("LS"), None), []);
    books.0.leave(two);
    assert_eq!(books.0.drop_orphans(name("LS"), Some(name("S"))), []);
    assert_eq!(books.0.drop_orphans(name("LS"), None), [key("R")]);
    assert_eq!(books.0.drop_orphans(name("LS"), None), []);
}

#[test]
fn one_command_at_a_time_and_the_rest_when_it_ends() {
    let mut books = Books::new();
    let plain = books.0.connect(5);
    assert_eq!(
        books.0.begin(plain, 7),
        Err(Refusal::Busy),
        "not registered"
    );
    let one = books.client();
    assert_eq!(books.0.begin(one, 7), Ok(()));
    assert_eq!(books.0.begin(one, 8), Err(Refusal::Busy));
    assert!(!books.0.hang_up(one), "the command runs on");
    assert_eq!(
        books.0.meant(plain, Whose::Process(77)),
        Err(Refusal::NoProcess)
    );
    assert!(books.0.end(one), "and then it is over");
    assert_eq!(books.0.leave(one), []);
    assert_eq!(books.0.begin(one, 8), Err(Refusal::Stale));
}

#[test]
fn clients_are_meant_by_connection_process_or_number() {
    let mut books = Books::new();
    let (plain, one, two) = (books.0.connect(77), books.client(), books.client());
    for (caller, whose, meant) in [
        (plain, Whose::Callers, Err(Refusal::Busy)),
        (two, Whose::Callers, Ok(two)),
        (plain, Whose::Process(77), Ok(one)),
        (plain, Whose::Process(78), Err(Refusal::NoProcess)),
        (plain, Whose::Client(two.0 as i32), Ok(two)),
        (
            plain,
            Whose::Client(plain.0 as i32),
            Err(Refusal::NoProcess),
        ),
        (plain, Whose::Client(-2), Err(Refusal::NoProcess)),
    ] {
        assert_eq!(books.0.meant(caller, whose), meant, "{whose:?}");
    }
}

/// What may happen to the books; numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Wish(usize, u32, u32),
    KeeperDone,
    KeeperFailed,
    Part(usize),
    HangUp(usize),
    DropOrphans,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0..6usize;
    let step = prop_oneof![
        Just(Step::Connect),
        (number.clone(), 0..4u32, 0..3u32).prop_map(|(who, mode, how)| Step::Wish(who, mode, how)),
        Just(Step::KeeperDone),
        Just(Step::KeeperFailed),
        number.clone().prop_map(Step::Part),
        number.prop_map(Step::HangUp),
        Just(Step::DropOrphans),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens, nobody has a lease twice, nobody shares an exclusive one, nobody has what is being released, and who
    /// has gone has nothing.
    #[test]
    fn the_books_are_in_order(steps in steps()) {
        let mut books = Registry::default();
        let mut clients: Vec<ClientId> = Vec::new();
        let mut gone: Vec<ClientId> = Vec::new();
        for step in steps {
            let one = |number: usize| (!clients.is_empty()).then(|| clients[number % clients.len()]);
            match step {
                Step::Connect => {
                    let client = books.connect(77);
                    books.register(client);
                    clients.push(client);
                }
                Step::Wish(who, mode, how) => if let Some(client) = one(who) {
                    let flags = match mode {
                        0 => ALONE,
                        1 => SHARED,
                        2 => PERSISTENT,
                        _ => SHARED.with(PERSISTENT),
                    };
                    let how = match how {
                        0 => NONE,
                        1 => AcquireFlags::ORPHAN,
                        _ => AcquireFlags::ORPHAN_ONLY,
                    };
                    let wanted = placed("R", flags);
                    let _ = books.wish(client, &wanted, how, LeaseId(1 << 20), Geometry::B512_M1);
                },
                Step::KeeperDone => {
                    match books.lease(key("R")).map(|lease| lease.phase) {
                        Some(Phase::Adding) => books.acquired(key("R"), 1),
                        Some(Phase::Removing) => books.forget(key("R")),
                        _ => {}
                    }
                }
                Step::KeeperFailed => {
                    if books.lease(key("R")).is_some_and(|lease| lease.phase == Phase::Adding) {
                        books.forget(key("R"));
                    }
                }
                Step::Part(who) => if let Some(client) = one(who) {
                    let _ = books.part(client, key("R"));
                },
                Step::HangUp(who) => if let Some(client) = one(who) {
                    // The command that acquires ends before its client is forgotten.
                    let adds = books.lease(key("R")).is_some_and(|lease| lease.phase == Phase::Adding);
                    if !adds {
                        clients.retain(|known| *known != client);
                        gone.push(client);
                        books.hang_up(client);
                        let _ = books.leave(client);
                    }
                },
                Step::DropOrphans => {
                    let _ = books.drop_orphans(name("LS"), None);
                }
            }
            prop_assert!(books.leases().len() <= 1);
            for lease in books.leases() {
                let mut holders: Vec<_> = lease.holders.iter().map(|h| h.client).collect();
                holders.sort_unstable();
                holders.dedup();
                prop_assert_eq!(holders.len(), lease.holders.len());
                if lease.mode == Mode::Exclusive {
                    prop_assert!(holders.len() <= 1);
                }
                if lease.phase == Phase::Removing {
                    prop_assert!(holders.is_empty());
                }
                prop_assert!(holders.iter().all(|holder| !gone.contains(holder)));
            }
        }
    }
}
