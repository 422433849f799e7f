//! A session: one TCP connection from the first login request to its end (RFC 7143, 4.2 and 6 to 11).
//!
//! ```text
//!   new ──> LoggingIn ──> FullFeature ──logout──> FullFeature, leaving ──> Closed(why)
//!               └──────────────┴──────────────────────────┴──────────────────> Closed(why)
//! ```
//!
//! The contract for a driver, in the order of one turn:
//! 1. events from outside: [`Session::receive`], [`Session::received_in_place`], [`Session::handle_timeout`];
//! 2. the caller's wishes: [`Session::submit`], [`Session::manage`], [`Session::text`], [`Session::logout`];
//! 3. drain [`Session::poll_event`] until `None`;
//! 4. when no send is in flight, [`Session::poll_transmit`];
//! 5. arm one receive for [`Session::want`];
//! 6. wake up at [`Session::poll_timeout`] at the latest.
//!
//! After the first error the session is `Closed` and stays so: every call is accepted and does nothing.
//! Commands that were not answered are handed back by [`Session::drain_orphans`].
//!
//! The parts: `framer` (stream to PDUs), `login_phase`, `full_feature` with `receive` (every PDU's checks) and
//! `transmit` (order of what leaves), `tasks` (who waits for an answer), `window` (CmdSN), `keepalive`, `text`.
//! A session never touches a byte outside the range of a command in flight, and none at all once it is closed.

mod closed;
mod command;
mod framer;
mod full_feature;
mod keepalive;
mod login_phase;
mod receive;
mod tasks;
mod text;
mod transmit;
mod window;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

pub use closed::Closed;
pub use command::{Command, Completion, Handle, Orphan, Transfer};

use crate::login::{LoginParameters, Negotiated};
use crate::memory::{BufferId, Memory};
use crate::outgoing::Outgoing;
use crate::scsi::Sense;
use crate::time::Instant;
use crate::wire::{AsyncMessage, Bhs, Lun, TaskManagementFunction, Tpgt};

use framer::{Framer, Step};
use full_feature::{FullFeature, Leaving};
use keepalive::{Due, Keepalive};
use login_phase::{LoginPhase, LoginTurn};
use tasks::{CommandTask, Management, Phase, Task, Tasks};
use text::{TextExchange, TextTurn};
use transmit::Immediate;

/// Limits and timers of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The login.
    pub login: LoginParameters,
    /// Tasks at most in flight: the size of the task table.
    pub tasks_max: u16,
    /// The whole login must be done within this time.
    pub login_timeout: Duration,
    /// After so long without a received byte, a ping is sent.
    pub ping_after: Duration,
    /// After so long without a received byte since the ping, the session is closed.
    pub ping_timeout: Duration,
}

/// What the caller should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Full feature phase; [`Session::negotiated`] says on which terms.
    Established,
    /// A command ended.
    Completed(Completion),
    /// A task management function was answered, with the RFC's response code.
    Managed {
        /// The caller's name.
        handle: Handle,
        /// 0 complete, 1 no such task, …
        response: u8,
    },
    /// A text exchange ended; the text is in [`Session::text_response`].
    Text,
    /// The target told us something. `sense` comes with [`crate::wire::AsyncEvent::Scsi`].
    Async(AsyncMessage, Option<Sense>),
    /// A ping of ours was answered.
    Pong,
    /// The session is over. Comes once, last.
    Closed(Closed),
}

/// Where the next received bytes belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Anything, any number of bytes: [`Session::receive`].
    Stream,
    /// The next `len` bytes of the stream are payload for this place: either receive exactly these in place and
    /// call [`Session::received_in_place`], or hand any bytes to [`Session::receive`] as ever.
    Payload {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Bytes still missing of this PDU's data.
        len: u32,
    },
    /// Nothing: the session is over.
    Nothing,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    framer: Framer,
    state: State,
    events: VecDeque<Event>,
    negotiated: Option<Box<Negotiated>>,
}

/// Where a session is in its life. Each state holds exactly what is known there.
#[derive(Debug)]
enum State {
    LoggingIn(Box<LoginPhase>),
    FullFeature(Box<FullFeature>),
    Closed(Box<Remains>),
}

/// What is left of a session.
#[derive(Debug)]
struct Remains {
    tasks: Tasks,
    text: TextExchange,
    last_received: Instant,
    portal_group: Option<Tpgt>,
    retry_with_md5_only: bool,
}

impl Session {
    /// A session whose connection has just been made. The login starts with the first transmit.
    ///
    /// # Panics
    /// Unless `tasks_max` is within 1..=65280.
    pub fn new(now: Instant, config: SessionConfig) -> Session {
        Session {
            framer: Framer::new(),
            events: VecDeque::with_capacity(usize::from(config.tasks_max) + 16),
            state: State::LoggingIn(Box::new(LoginPhase::start(now, &config))),
            negotiated: None,
        }
    }

    /// A session that has logged in on these terms, with CmdSN 1, a window up to `max_cmd_sn`, and StatSN 1 next.
    #[cfg(any(test, feature = "fuzzing"))]
    fn established(
        now: Instant,
        config: &SessionConfig,
        terms: Negotiated,
        max_cmd_sn: u32,
    ) -> Session {
        use crate::wire::{CmdSn, StatSn};
        use window::Window;
        let mut window = Window::closed_at(CmdSn(1));
        window.update(CmdSn(1), CmdSn(max_cmd_sn));
        let tasks = Tasks::new(config.tasks_max);
        let keepalive = Keepalive::new(now, config.ping_after, config.ping_timeout);
        let session = FullFeature::new(&terms, window, StatSn(1), tasks, keepalive);
        let mut framer = Framer::new();
        framer.set_digests(session.digests.header, session.digests.data);
        Session {
            framer,
            state: State::FullFeature(Box::new(session)),
            events: VecDeque::new(),
            negotiated: Some(Box::new(terms)),
        }
    }

    /// Takes stream bytes. Consumes all of them; what the peer did wrong shows as [`Event::Closed`].
    pub fn receive(&mut self, now: Instant, bytes: &[u8], memory: &mut dyn Memory) {
        if bytes.is_empty() {
            return;
        }
        self.heard(now);
        let mut rest = bytes;
        while !self.is_closed() {
            match self.step(now, &mut rest, memory) {
                Ok(Continue::More) => {}
                Ok(Continue::Starved) => return,
                Err(why) => self.close(why),
            }
        }
    }

    /// Takes note that the runtime received `len` bytes where [`Session::want`] said, in order.
    ///
    /// # Panics
    /// If that is not what [`Session::want`] said: the bytes lie where they must not.
    pub fn received_in_place(&mut self, now: Instant, len: u32, memory: &dyn Memory) {
        if self.is_closed() || len == 0 {
            return;
        }
        self.heard(now);
        if let Some(bhs) = self.framer.placed(len, memory)
            && let Err(why) = self.complete(now, &bhs)
        {
            self.close(why);
        }
    }

    /// Where the next received bytes belong.
    pub fn want(&self) -> Want {
        match self.state {
            State::Closed(_) => Want::Nothing,
            State::LoggingIn(_) | State::FullFeature(_) => self.framer.want(),
        }
    }

    /// Fires timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::LoggingIn(login) if now >= login.deadline => self.close(Closed::LoginTimeout),
            State::FullFeature(session) => {
                session.outbox.repeat(now);
                match session.keepalive.due(now) {
                    Due::Nothing => {}
                    Due::Ping => {
                        session.ping(now);
                    }
                    Due::Acknowledgement => {
                        session.keepalive.acknowledged();
                        let lun = Lun::default();
                        // A full queue acknowledges as well as one more entry would.
                        let _ = session.queue(Immediate::Acknowledgement { lun });
                    }
                    Due::Silence => self.close(Closed::Silent),
                }
            }
            State::LoggingIn(_) | State::Closed(_) => {}
        }
    }

    /// When [`Session::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::LoggingIn(login) => Some(login.deadline),
            State::FullFeature(session) => {
                let keepalive = session.keepalive.next();
                let repeat = session.outbox.deferred.front().map(|(at, _)| *at);
                Some(repeat.map_or(keepalive, |at| at.min(keepalive)))
            }
            State::Closed(_) => None,
        }
    }

    /// How many commands may be submitted now: the CmdSN window or the task table, whichever is smaller.
    /// 0 before full feature phase, from [`Session::logout`] on, and after the end.
    pub fn room(&self) -> u32 {
        match &self.state {
            State::FullFeature(session) if session.leaving == Leaving::No => {
                let window = session
                    .window
                    .room()
                    .saturating_sub(session.outbox.numbered());
                window.min(session.tasks.room())
            }
            State::LoggingIn(_) | State::FullFeature(_) | State::Closed(_) => 0,
        }
    }

    /// Queues a command; it leaves with the next transmit. A command for a session that has just closed or
    /// is logging out is accepted and comes back as an unsent [`Orphan`].
    ///
    /// # Panics
    /// If [`Session::room`] is 0 although the session is open, if no task slot is free, or if the transfer's
    /// range does not fit 32 bits.
    pub fn submit(&mut self, _now: Instant, command: Command) {
        if let Transfer::Read { offset, len, .. } | Transfer::Write { offset, len, .. } =
            command.transfer
        {
            assert!(
                offset.checked_add(len).is_some(),
                "a transfer beyond 32 bits"
            );
        }
        match &mut self.state {
            State::LoggingIn(_) => panic!("a command was submitted during the login"),
            State::FullFeature(session) => {
                assert!(
                    session.leaving != Leaving::No
                        || session.window.room() > session.outbox.numbered(),
                    "a command was submitted beyond the window"
                );
                let task = session.tasks.insert(command);
                session.outbox.commands.push_back(task);
            }
            State::Closed(remains) => {
                remains.tasks.insert(command);
            }
        }
    }

    /// Queues a task management function. `abort` names the command for ABORT TASK, and is ignored otherwise.
    /// Returns false if the command is no longer in flight, five functions are under way already, or the
    /// session is not in full feature phase.
    ///
    /// Commands that a function ended come as [`Event::Completed`] with [`crate::scsi::Status::TaskAborted`]
    /// before its [`Event::Managed`] with response 0. A command that has not left yet is aborted on the spot.
    pub fn manage(
        &mut self,
        _now: Instant,
        handle: Handle,
        function: TaskManagementFunction,
        lun: Lun,
        abort: Option<Handle>,
    ) -> bool {
        let State::FullFeature(session) = &mut self.state else {
            return false;
        };
        let mut management = Management {
            handle,
            function,
            lun,
            abort: None,
            cmd_sn: None,
        };
        if function == TaskManagementFunction::AbortTask {
            let Some(tag) = abort.and_then(|handle| session.tasks.tag_of(handle)) else {
                return false;
            };
            match session.tasks.command(tag).expect("just found").phase {
                Phase::Sent { cmd_sn, .. } => management.abort = Some((tag, cmd_sn)),
                Phase::Queued => {
                    session.outbox.commands.retain(|queued| *queued != tag);
                    session.abort_locally(&[tag], &mut self.events);
                    self.events.push_back(Event::Managed {
                        handle,
                        response: 0,
                    });
                    return true;
                }
            }
        }
        let Some(task) = session.tasks.insert_management(management) else {
            return false;
        };
        session
            .outbox
            .immediates
            .push_back(Immediate::Management(task));
        true
    }

    /// Takes back a command that has not left: no event follows. False if it has left, or is not there.
    pub fn withdraw(&mut self, handle: Handle) -> bool {
        let State::FullFeature(session) = &mut self.state else {
            return false;
        };
        let Some(tag) = session.tasks.tag_of(handle) else {
            return false;
        };
        let unsent = matches!(
            session.tasks.command(tag),
            Some(CommandTask {
                phase: Phase::Queued,
                ..
            })
        );
        if unsent {
            session.outbox.commands.retain(|queued| *queued != tag);
            session.tasks.remove(tag);
        }
        unsent
    }

    /// From now on the data of this read land at `offset` of `buffer`; what has arrived stays where it is. Does
    /// nothing if the command is not there: then no byte of it lands anywhere.
    ///
    /// Never called while a receive in place may be under way for it (see [`Session::want`]): its bytes would be
    /// looked for in the new place.
    ///
    /// # Panics
    /// If the command reads nothing, or the new range does not fit 32 bits.
    pub fn redirect(&mut self, handle: Handle, buffer: BufferId, offset: u32) {
        let State::FullFeature(session) = &mut self.state else {
            return;
        };
        let Some(tag) = session.tasks.tag_of(handle) else {
            return;
        };
        let task = session.tasks.command(tag).expect("just found");
        let Transfer::Read { len, .. } = task.command.transfer else {
            panic!("only a read lands anywhere");
        };
        assert!(
            offset.checked_add(len).is_some(),
            "a transfer beyond 32 bits"
        );
        task.command.transfer = Transfer::Read {
            buffer,
            offset,
            len,
        };
        let received = task.received();
        self.framer.redirect(tag, buffer, offset + received);
    }

    /// Starts a text exchange (SendTargets) of at most 8192 bytes, one at a time: while one is under way
    /// another is ignored. The answer is collected up to 1 MiB over all continuations.
    ///
    /// # Panics
    /// If the text is longer.
    pub fn text(&mut self, _now: Instant, text: &[u8]) {
        assert!(
            text.len() <= TEXT_REQUEST_MAX,
            "a text request of {} bytes",
            text.len()
        );
        if let State::FullFeature(session) = &mut self.state
            && let Some(task) = session.tasks.insert_single(Task::Text)
        {
            session.text.start(text);
            session.outbox.text = Some((task, TextTurn::Opening));
        }
    }

    /// The collected answer of the last text exchange.
    pub fn text_response(&self) -> &[u8] {
        match &self.state {
            State::LoggingIn(_) => &[],
            State::FullFeature(session) => &session.text.response,
            State::Closed(remains) => &remains.text.response,
        }
    }

    /// Sends a ping now, unless four are unanswered. It needs no room in the window. Returns whether one was queued: a
    /// caller that suspects silence sends several, so that the loss of one segment is not taken for it.
    pub fn ping(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::FullFeature(session) => session.ping(now),
            State::LoggingIn(_) | State::Closed(_) => false,
        }
    }

    /// Sends a NOP-Out that no target answers (RFC 7143, 11.18: no Initiator Task Tag), unless something waits to be sent
    /// anyhow: a segment for the other end's TCP to acknowledge when no more pings may be unanswered. Returns whether one
    /// was queued.
    pub fn nudge(&mut self) -> bool {
        match &mut self.state {
            State::FullFeature(session) if session.outbox.immediates.is_empty() => {
                let lun = Lun::default();
                session.queue(Immediate::Acknowledgement { lun }).is_ok()
            }
            State::FullFeature(_) | State::LoggingIn(_) | State::Closed(_) => false,
        }
    }

    /// Pings that are unanswered.
    pub fn pings(&self) -> u32 {
        match &self.state {
            State::FullFeature(session) => session.tasks.pings(),
            State::LoggingIn(_) | State::Closed(_) => 0,
        }
    }

    /// Logs out: no new commands; ends in [`Closed::LoggedOut`]. A logout ends every task of the session, so
    /// it leaves when the last command that was sent is answered; commands that have not left come back as
    /// unsent orphans. Who cannot wait calls [`Session::connection_lost`].
    pub fn logout(&mut self, _now: Instant) {
        if let State::FullFeature(session) = &mut self.state
            && session.leaving == Leaving::No
        {
            session.leaving = Leaving::WhenIdle;
        }
    }

    /// The runtime lost the connection, or was told to close it.
    pub fn connection_lost(&mut self) {
        if !self.is_closed() {
            self.close(Closed::ConnectionLost);
        }
    }

    /// The next thing the caller should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Fills `out` with what should leave now: answers to pings first, then data the target asked for, then
    /// commands in CmdSN order. Not called while an earlier send is in flight. A head buffer below 64 bytes
    /// or fewer than three pieces carry nothing.
    pub fn poll_transmit(&mut self, _now: Instant, memory: &dyn Memory, out: &mut Outgoing<'_>) {
        self.state.transmit(memory, out);
    }

    /// The unanswered commands of a closed session, each once.
    pub fn drain_orphans(&mut self) -> impl Iterator<Item = Orphan> + '_ {
        core::iter::from_fn(|| match &mut self.state {
            State::Closed(remains) => {
                let task = remains.tasks.remove_any_command()?;
                let sent = matches!(task.phase, Phase::Sent { .. });
                Some(Orphan {
                    handle: task.command.handle,
                    sent,
                })
            }
            State::LoggingIn(_) | State::FullFeature(_) => None,
        })
    }

    /// The agreed terms, from [`Event::Established`] on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_deref()
    }

    /// The portal group the target named, as soon as it did.
    pub fn portal_group(&self) -> Option<Tpgt> {
        match &self.state {
            State::LoggingIn(login) => login.portal_group(),
            State::FullFeature(_) => self
                .negotiated
                .as_ref()
                .and_then(|terms| terms.portal_group),
            State::Closed(remains) => remains.portal_group,
        }
    }

    /// Whether, after a login that failed or lost its connection, one more attempt with
    /// [`crate::login::Credentials::md5_only`] makes sense.
    pub fn retry_with_md5_only(&self) -> bool {
        match &self.state {
            State::LoggingIn(login) => login.retry_with_md5_only(),
            State::FullFeature(_) => false,
            State::Closed(remains) => remains.retry_with_md5_only,
        }
    }

    /// When the last byte was received; the session's start before the first one.
    pub fn last_received(&self) -> Instant {
        match &self.state {
            State::LoggingIn(login) => login.last_received,
            State::FullFeature(session) => session.keepalive.last_received(),
            State::Closed(remains) => remains.last_received,
        }
    }

    /// Commands submitted and not yet completed.
    pub fn in_flight(&self) -> u32 {
        match &self.state {
            State::LoggingIn(_) => 0,
            State::FullFeature(session) => session.tasks.commands(),
            State::Closed(remains) => remains.tasks.commands(),
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    fn heard(&mut self, now: Instant) {
        match &mut self.state {
            State::LoggingIn(login) => login.last_received = now,
            State::FullFeature(session) => session.keepalive.heard(now),
            State::Closed(_) => {}
        }
    }

    /// Takes the stream to its next point of interest.
    fn step(
        &mut self,
        now: Instant,
        bytes: &mut &[u8],
        memory: &mut dyn Memory,
    ) -> Result<Continue, Closed> {
        match self.framer.advance(bytes, memory)? {
            Step::Starved => Ok(Continue::Starved),
            Step::Header(bhs) => {
                let place = match &mut self.state {
                    State::LoggingIn(_) => LoginPhase::place(&bhs)?,
                    State::FullFeature(session) => session.place(&bhs)?,
                    State::Closed(_) => unreachable!("a closed session reads nothing"),
                };
                self.framer.route(place);
                Ok(Continue::More)
            }
            Step::Complete(bhs) => {
                self.complete(now, &bhs)?;
                Ok(Continue::More)
            }
        }
    }

    fn complete(&mut self, now: Instant, bhs: &Bhs) -> Result<(), Closed> {
        let data = &self.framer.control;
        match &mut self.state {
            State::LoggingIn(login) => match login.handle(bhs, data)? {
                LoginTurn::Continue => Ok(()),
                LoginTurn::Done {
                    negotiated,
                    window,
                    exp_stat_sn,
                } => {
                    let tasks = take_tasks(&mut login.tasks);
                    let keepalive = Keepalive::new(now, login.ping_after, login.ping_timeout);
                    let session =
                        FullFeature::new(&negotiated, window, exp_stat_sn, tasks, keepalive);
                    self.framer
                        .set_digests(session.digests.header, session.digests.data);
                    self.state = State::FullFeature(Box::new(session));
                    self.negotiated = Some(negotiated);
                    self.events.push_back(Event::Established);
                    Ok(())
                }
            },
            State::FullFeature(session) => session.handle(now, bhs, data, &mut self.events),
            State::Closed(_) => unreachable!("a closed session reads nothing"),
        }
    }

    fn close(&mut self, why: Closed) {
        let last_received = self.last_received();
        let portal_group = self.portal_group();
        let retry_with_md5_only = self.retry_with_md5_only();
        let (tasks, text) = match &mut self.state {
            State::LoggingIn(login) => (take_tasks(&mut login.tasks), TextExchange::default()),
            State::FullFeature(session) => (
                take_tasks(&mut session.tasks),
                core::mem::take(&mut session.text),
            ),
            State::Closed(_) => unreachable!("a session closes once"),
        };
        self.state = State::Closed(Box::new(Remains {
            tasks,
            text,
            last_received,
            portal_group,
            retry_with_md5_only,
        }));
        self.events.push_back(Event::Closed(why));
    }
}

/// What a step of the stream led to.
enum Continue {
    More,
    Starved,
}

/// Moves the table into the next state.
fn take_tasks(tasks: &mut Tasks) -> Tasks {
    core::mem::replace(tasks, Tasks::new(1))
}

const TEXT_REQUEST_MAX: usize = 8192;
