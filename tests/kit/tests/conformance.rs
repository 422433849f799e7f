//! The bodies of [`kit::conformance`] on the simulated target, in the manners of every target it knows. Real targets run
//! the same in `tests/interop`.

use core::time::Duration;

use iscsi_client::login::{Negotiated, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::session::{Event, Session};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Lun};
use kit::conformance::{self, Bench};
use kit::disk::LunConfig;
use kit::pair::{self, Pair};
use kit::target::{FLAVOURS, Flavour, Limits, TargetConfig};
use kit::world::LUN_0;

/// Nobody needs longer.
const PATIENCE: Duration = Duration::from_secs(60);

struct Simulated {
    target: TargetConfig,
    pair: Option<Pair>,
    /// The connection before the newest one.
    former: Option<kit::target::ConnId>,
}

impl Simulated {
    fn new(flavour: Flavour) -> Simulated {
        let mut target = TargetConfig {
            limits: Limits {
                initial_r2t: false,
                window: 16,
                max_outstanding_r2t: 2,
                ..Limits::default()
            },
            ..TargetConfig::default()
        };
        flavour.shape(&mut target);
        Simulated {
            target,
            pair: None,
            former: None,
        }
    }

    fn pair(&mut self) -> &mut Pair {
        self.pair.as_mut().expect("a body logs in first")
    }
}

impl Bench for Simulated {
    fn log_in(&mut self, isid: u8, offer: Offer) -> Negotiated {
        let mut config = pair::login(&self.target, offer);
        config.login.isid = Isid([0x80, 0, 0, 1, 0, isid]);
        match &mut self.pair {
            Some(pair) => {
                self.former = Some(pair.conn());
                pair.log_in_beside(config);
            }
            None => {
                let target = self.target.clone();
                self.pair = Some(Pair::new(1, target, LunConfig::default(), config));
            }
        }
        let pair = self.pair();
        pair.establish();
        pair.session.negotiated().expect("logged in").clone()
    }

    fn session(&mut self) -> &mut Session {
        &mut self.pair().session
    }

    fn now(&self) -> Instant {
        self.pair.as_ref().expect("a body logs in first").now()
    }

    fn lun(&self) -> Lun {
        LUN_0
    }

    fn buffer(&mut self, buffer: BufferId) -> &mut [u8] {
        self.pair().memory.of(buffer)
    }

    fn event(&mut self) -> Event {
        let pair = self.pair();
        assert!(
            pair.run(PATIENCE, |events| !events.is_empty()),
            "no event; violations {:?}",
            pair.world.target.violations()
        );
        pair.next_event().expect("there is one")
    }

    fn has_closed_the_former(&mut self) -> bool {
        let former = self.former.expect("a second login");
        let mut sessions = self.pair().world.target.sessions();
        sessions.all(|(conn, ..)| conn != former)
    }
}

/// Runs a body on every flavour; the target must find no fault either.
fn on_each(body: impl Fn(&mut Simulated)) {
    for flavour in FLAVOURS {
        let mut bench = Simulated::new(flavour);
        body(&mut bench);
        assert_eq!(bench.pair().world.target.violations(), [], "{flavour:?}");
    }
}

#[test]
fn data_arrive_under_every_offer() {
    on_each(|bench| conformance::data_arrive_under_every_offer(bench, &[false, true]));
}

#[test]
fn the_window_opens_as_commands_end() {
    on_each(conformance::the_window_opens_as_commands_end);
}

#[test]
fn a_session_is_reinstated() {
    on_each(conformance::a_session_is_reinstated);
}

#[test]
fn an_aborted_command_ends_once() {
    on_each(conformance::an_aborted_command_ends_once);
}

#[test]
fn pings_are_answered() {
    on_each(conformance::pings_are_answered);
}

#[test]
fn residuals_are_exact() {
    on_each(conformance::residuals_are_exact);
}
