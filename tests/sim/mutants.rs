//! Can the judges see? Each rule is broken on purpose, and some judge must say so within a few seeds.
//!
//! Built with `--features mutants` only, which `cargo lab test` does. A mutant that nobody catches means that the
//! simulation has stopped trying what the rule is for, or that its judge has gone blind.

use core::time::Duration;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use iscsi_client::mutant::Mutant as SessionMutant;
use kit::disk::{Fault, Injection, Select};
use kit::net::{Direction, Link, LinkConfig};
use kit::world::{Incident, LUN_0};
use multipath::mutant::Mutant as VolumeMutant;
use multipath::{NoPathRetry, PolicyKind};

use crate::host::{Host, Slip};
use crate::plan::{Plan, Trouble};

/// What is broken.
#[derive(Clone, Copy)]
enum Broken {
    Session(SessionMutant),
    Volume(VolumeMutant),
    Runtime(Slip),
}

impl Broken {
    /// Breaks the rule for as long as the returned value lives.
    fn arm(self) -> Armed {
        match self {
            Broken::Session(mutant) => iscsi_client::mutant::arm(Some(mutant)),
            Broken::Volume(mutant) => multipath::mutant::arm(Some(mutant)),
            Broken::Runtime(_) => {}
        }
        Armed
    }
}

struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        iscsi_client::mutant::arm(None);
        multipath::mutant::arm(None);
    }
}

/// Seeds at most, of any mutant.
const SEEDS: u64 = 120;

/// Runs seeds until a judge speaks, and wants its words to be one of `verdicts`.
fn is_caught(broken: Broken, trouble: Trouble, verdicts: &[&str]) {
    is_caught_in(broken, trouble, verdicts, |_| (), |_| ());
}

/// As [`is_caught`], in a world made for the rule in question: what `shape` makes of the seed's plan, and the trouble
/// that `begin` adds.
fn is_caught_in(
    broken: Broken,
    trouble: Trouble,
    verdicts: &[&str],
    shape: fn(&mut Plan),
    begin: fn(&mut Host),
) {
    for seed in 1..=SEEDS {
        let mut plan = Plan::draw(seed, trouble);
        shape(&mut plan);
        let armed = broken.arm();
        let run = || {
            crate::run_plan(plan, |host| {
                if let Broken::Runtime(slip) = broken {
                    host.slip = Some(slip);
                }
                begin(host);
            })
        };
        let outcome = catch_unwind(AssertUnwindSafe(run));
        drop(armed);
        if let Err(panic) = outcome {
            let words = words(&*panic);
            assert!(
                verdicts.iter().any(|verdict| words.contains(verdict)),
                "seed {seed}: caught, but by another judge than {verdicts:?}: {words}"
            );
            return;
        }
    }
    panic!("nobody saw it in {SEEDS} seeds");
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words")
}

#[test]
fn an_answer_before_the_fence() {
    let broken = Broken::Volume(VolumeMutant::AnswerBeforeFence);
    is_caught(broken, Trouble::Backend, &["Ghost"]);
}

#[test]
fn an_overlapping_write_let_through() {
    // Writes hang, all paths are lost and the writes fail; the paths are back long before the writes go on.
    let shape = |plan: &mut Plan| {
        plan.no_path_retry = NoPathRetry::Fail;
        plan.region = 6;
        plan.duration = Duration::from_secs(8);
    };
    let begin = |host: &mut Host| {
        let parked = Injection {
            nexus: None,
            select: Select::Writes,
            fault: Fault::Park,
            times: 6,
        };
        for round in 0..3 {
            let start = host.world.now() + Duration::from_secs(2 * round);
            let mut plan = |millis, incident| {
                let at = start + Duration::from_millis(millis);
                host.world.schedule(at, incident);
            };
            plan(100, Incident::Inject(LUN_0, parked));
            for link in (0..host.plan.paths).map(Link) {
                plan(200, Incident::Reset(link));
                plan(200, Incident::Cut(link, Direction::ToTarget));
                plan(210, Incident::Heal(link));
            }
            plan(1_900, Incident::ReleaseAll);
        }
    };
    let broken = Broken::Volume(VolumeMutant::OverlapLetThrough);
    is_caught_in(broken, Trouble::None, &["Ghost", "Stale"], shape, begin);
}

#[test]
fn a_retry_without_a_fence() {
    let broken = Broken::Volume(VolumeMutant::RetryWithoutFence);
    is_caught(broken, Trouble::Backend, &["Ghost"]);
}

#[test]
fn a_fence_without_the_ordered_command() {
    let broken = Broken::Volume(VolumeMutant::NoOrderedCommand);
    is_caught(broken, Trouble::Backend, &["Ghost"]);
}

#[test]
fn one_isid_on_all_paths() {
    let broken = Broken::Volume(VolumeMutant::SameIsid);
    let verdicts = ["everything completes", "Up", "time stands still", "Ghost"];
    is_caught(broken, Trouble::None, &verdicts);
}

#[test]
fn another_disk_taken_for_ours() {
    let broken = Broken::Volume(VolumeMutant::AnyIdentity);
    is_caught(
        broken,
        Trouble::Everything,
        &["another disk", "Stale", "Torn"],
    );
}

#[test]
fn a_write_cache_overlooked() {
    let broken = Broken::Volume(VolumeMutant::CacheOverlooked);
    is_caught(broken, Trouble::Everything, &["writes in the cache"]);
}

#[test]
fn an_answer_while_its_buffer_is_received_into() {
    // Reads on a slow path that falls silent while data come in: their second copies overtake them.
    let shape = |plan: &mut Plan| {
        plan.paths = 2;
        plan.groups = vec![1, 1];
        plan.links = vec![LinkConfig::default(); 2];
        plan.links[0].bandwidth = Some(2 << 20);
        plan.links[0].piece_max = 1460;
        plan.close_delay = Duration::from_millis(20);
        plan.policy = PolicyKind::LateBinding;
        plan.block_len = 4096;
        plan.region = 96;
        plan.duration = Duration::from_secs(10);
    };
    let begin = |host: &mut Host| {
        let at = host.world.now() + Duration::from_millis(300);
        let cut = Incident::Cut(Link(0), Direction::ToInitiator);
        host.world.schedule(at, cut);
    };
    let broken = Broken::Volume(VolumeMutant::AnsweredWhileReceiving);
    let verdicts = ["a receive of", "touched after", "Torn"];
    is_caught_in(broken, Trouble::None, &verdicts, shape, begin);
}

#[test]
fn a_buffer_given_back_while_it_is_sent_from() {
    // Writes that are refused at once, while their unsolicited data leave in small pieces.
    let shape = |plan: &mut Plan| {
        plan.answers_before_data = true;
        plan.send_max = 4096;
        plan.limits.initial_r2t = false;
        plan.limits.max_burst_length = 256 << 10;
        plan.limits.first_burst_length = 256 << 10;
        plan.block_len = 4096;
        plan.region = 96;
    };
    let begin = |host: &mut Host| host.world.happen(Incident::WriteProtect(LUN_0, true));
    let broken = Broken::Runtime(Slip::AnswersDuringSend);
    is_caught_in(broken, Trouble::None, &["sent from after"], shape, begin);
}

#[test]
fn a_write_without_permission() {
    let broken = Broken::Volume(VolumeMutant::WriteWithoutPermission);
    is_caught(broken, Trouble::Lease, &["leaves without permission"]);
}

#[test]
fn the_rest_of_a_write_without_permission() {
    let broken = Broken::Volume(VolumeMutant::DataOutWithoutPermission);
    is_caught(broken, Trouble::Lease, &["leaves without permission"]);
}

#[test]
fn a_drain_that_ends_too_early() {
    let broken = Broken::Volume(VolumeMutant::DrainedTooEarly);
    is_caught(broken, Trouble::Lease, &["executed after the drain"]);
}

#[test]
fn a_command_beyond_the_window() {
    let broken = Broken::Session(SessionMutant::BeyondTheWindow);
    is_caught(broken, Trouble::Backend, &["CmdSN beyond the window"]);
}

#[test]
fn a_lost_r2t() {
    let broken = Broken::Session(SessionMutant::LostR2t);
    is_caught(
        broken,
        Trouble::None,
        &["everything completes", "in_flight"],
    );
}

#[test]
fn missing_data_taken_for_all() {
    let broken = Broken::Session(SessionMutant::ShortDataPass);
    is_caught(broken, Trouble::Everything, &["Torn", "Stale"]);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent() {
    let broken = Broken::Session(SessionMutant::ExpStatSnAhead);
    is_caught(
        broken,
        Trouble::None,
        &["ExpStatSN", "everything completes"],
    );
}
