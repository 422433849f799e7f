//! The books, wish by wish.

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
