//! The login's place in a session: frames its requests and responses, limits its time
//! (RFC 7143, 6.3 and 11.13). What the keys mean is [`crate::login`]'s.

use core::time::Duration;

use crate::login::{Login, Negotiated, Progress};
use crate::time::Instant;
use crate::wire::{Bhs, CmdSn, LoginRequest, LoginResponse, Opcode, StatSn, Tpgt};

use super::framer::Place;
use super::tasks::Tasks;
use super::transmit::{CopiedPdu, Digests};
use super::window::Window;
use super::{Closed, SessionConfig};

/// A session that is logging in.
#[derive(Debug)]
pub(super) struct LoginPhase {
    login: Login,
    /// The request that is on its way out.
    pub(super) request: CopiedPdu,
    pub(super) deadline: Instant,
    pub(super) last_received: Instant,
    /// CmdSN of the login, which the first command will carry again.
    cmd_sn: CmdSn,
    /// Kept for full feature phase.
    pub(super) tasks: Tasks,
    pub(super) ping_after: Duration,
    pub(super) ping_timeout: Duration,
}

/// What a login response led to.
#[derive(Debug)]
pub(super) enum LoginTurn {
    /// Another request waits to leave.
    Continue,
    /// Full feature phase.
    Done {
        negotiated: Box<Negotiated>,
        window: Window,
        exp_stat_sn: StatSn,
    },
}

impl LoginPhase {
    pub(super) fn start(now: Instant, config: &SessionConfig) -> LoginPhase {
        let (login, request, text) = Login::start(&config.login);
        let mut phase = LoginPhase {
            login,
            request: CopiedPdu::default(),
            deadline: now + config.login_timeout,
            last_received: now,
            cmd_sn: request.cmd_sn,
            tasks: Tasks::new(config.tasks_max),
            ping_after: config.ping_after,
            ping_timeout: config.ping_timeout,
        };
        phase.send(request, &text);
        phase
    }

    /// Login data are bounded by the default MaxRecvDataSegmentLength.
    pub(super) fn place(bhs: &Bhs) -> Result<Place, Closed> {
        match bhs.opcode() {
            Some(Opcode::LoginResponse) if bhs.data_len() <= LOGIN_DATA_MAX => Ok(Place::Control),
            Some(Opcode::LoginResponse) => Err(Closed::Protocol(
                "Login Response with more than 8192 bytes of data",
            )),
            _ => Err(Closed::Protocol(
                "something else than a Login Response during the login",
            )),
        }
    }

    /// Takes a response.
    pub(super) fn handle(&mut self, bhs: &Bhs, data: &[u8]) -> Result<LoginTurn, Closed> {
        let response = LoginResponse::parse(bhs)?;
        if !self.request.is_empty() {
            return Err(Closed::Protocol(
                "Login Response before the request had left",
            ));
        }
        match self.login.handle_response(&response, data) {
            Progress::Send(request, text) => {
                self.send(request, &text);
                Ok(LoginTurn::Continue)
            }
            Progress::Failed(failure) => Err(Closed::Login(failure)),
            Progress::Done(negotiated) => {
                let mut window = Window::closed_at(self.cmd_sn);
                window.update(response.numbers.exp_cmd_sn, response.numbers.max_cmd_sn);
                Ok(LoginTurn::Done {
                    negotiated,
                    window,
                    exp_stat_sn: self.login.exp_stat_sn(),
                })
            }
        }
    }

    /// Whether the same login with MD5 alone is worth one more attempt, should this one fail.
    pub(super) fn retry_with_md5_only(&self) -> bool {
        self.login.retry_with_md5_only()
    }

    /// The portal group, as soon as the target named it.
    pub(super) fn portal_group(&self) -> Option<Tpgt> {
        self.login.portal_group()
    }

    fn send(&mut self, request: LoginRequest, text: &[u8]) {
        self.cmd_sn = request.cmd_sn;
        self.request.set(request.emit(), text, Digests::default());
    }
}

const LOGIN_DATA_MAX: usize = 8192;
