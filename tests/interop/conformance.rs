//! The bodies of [`kit::conformance`] on a real tgt. The simulated target runs the same in `tests/kit/tests`.

use kit::conformance;

use super::client::RealTarget;
use super::tgtd::Tgtd;

#[test]
fn data_arrive_under_every_offer() {
    // tgt picks digests by its own order, not by ours: `data_move_under_digests` tells it.
    let target = Tgtd::start(&[("InitialR2T", "No")]);
    let mut bench = RealTarget::at(target.portals[0]);
    conformance::data_arrive_under_every_offer(&mut bench, &[false]);
}

#[test]
fn the_window_opens_as_commands_end() {
    let target = Tgtd::start(&[]);
    conformance::the_window_opens_as_commands_end(&mut RealTarget::at(target.portals[0]));
}

#[test]
fn a_session_is_reinstated() {
    let target = Tgtd::start(&[]);
    conformance::a_session_is_reinstated(&mut RealTarget::at(target.portals[0]));
}

#[test]
fn an_aborted_command_ends_once() {
    let target = Tgtd::start(&[]);
    conformance::an_aborted_command_ends_once(&mut RealTarget::at(target.portals[0]));
}

#[test]
fn pings_are_answered() {
    let target = Tgtd::start(&[]);
    conformance::pings_are_answered(&mut RealTarget::at(target.portals[0]));
}

#[test]
fn residuals_are_exact() {
    let target = Tgtd::start(&[]);
    conformance::residuals_are_exact(&mut RealTarget::at(target.portals[0]));
}
