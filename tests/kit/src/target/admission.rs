//! From login requests to a session: the login's PDUs, and what happens to a session of the same name before
//! (reinstatement, RFC 7143, 6.3.5), in the target's temperament.

use iscsi_client::time::Instant;
use iscsi_client::wire::{
    CmdSn, LoginRequest, LoginResponse, LoginStatus, Opcode, Stage, TargetNumbers, Tsih,
};

use super::login::{Constants, Negotiation, Refusal};
use super::{
    Close, ConnId, Final, Identity, LoginFate, Phase, Reinstatement, Session, Target, stream, text,
};
use crate::disk::{Code, Nexus};

impl Target {
    pub(super) fn login_request(&mut self, now: Instant, id: ConnId, pdu: &stream::Pdu) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Phase::Login(negotiation) = &mut conn.phase else {
            return;
        };
        if pdu.bhs.opcode() != Some(Opcode::LoginRequest) || !pdu.bhs.is_immediate() {
            return self.violation(now, id, "not a login request");
        }
        let Ok(request) = LoginRequest::parse(&pdu.bhs) else {
            return self.violation(now, id, "malformed login request");
        };
        let mut response = LoginResponse {
            transit: None,
            continued: false,
            stage: request.stage,
            version_max: 0,
            version_active: 0,
            isid: request.isid,
            tsih: request.tsih,
            task: request.task,
            numbers: TargetNumbers {
                stat_sn: conn.stat_sn,
                exp_cmd_sn: request.cmd_sn,
                max_cmd_sn: CmdSn(request.cmd_sn.0.wrapping_add(1)),
            },
            status: LoginStatus::SUCCESS,
            data_len: 0,
        };
        if negotiation.constants.is_some() && request.exp_stat_sn != conn.stat_sn {
            return self.violation(now, id, "ExpStatSN of a login request");
        }
        if negotiation.constants.is_none()
            && let Some(fate) = self.fates.pop_front()
        {
            match fate {
                LoginFate::Status(status) => self.refuse(now, id, response, status, &[]),
                LoginFate::Redirect { address, permanent } => {
                    let status = LoginStatus {
                        class: 1,
                        detail: if permanent { 2 } else { 1 },
                    };
                    let text = text::encode(&[("TargetAddress".into(), address)]);
                    self.refuse(now, id, response, status, &text);
                }
                LoginFate::Silence => conn.phase = Phase::Over,
                LoginFate::Close => self.close(now, id, Close::Fin),
            }
            return;
        }
        let step = negotiation.step(
            &self.config,
            conn.group,
            &request,
            &pdu.data,
            &mut self.prng,
        );
        let reply = match step {
            Ok(reply) => reply,
            Err(Refusal::Status(status)) => return self.refuse(now, id, response, status, &[]),
            Err(Refusal::Violation(rule)) => return self.violation(now, id, rule),
        };
        response.stage = reply.stage;
        response.transit = reply.transit;
        response.continued = reply.continued;
        response.data_len = reply.text.len() as u32;
        if reply.transit != Some(Stage::FullFeature) {
            conn.stat_sn = conn.stat_sn.next();
            stream::put(
                &mut conn.output,
                &response.emit(),
                &reply.text,
                false,
                false,
            );
            return;
        }
        let negotiation = negotiation.clone();
        self.reinstate(now, id, &negotiation, response, reply.text);
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        id: ConnId,
        mut response: LoginResponse,
        status: LoginStatus,
        text: &[u8],
    ) {
        response.status = status;
        response.data_len = text.len() as u32;
        if let Some(conn) = self.conns.get_mut(&id) {
            stream::put(&mut conn.output, &response.emit(), text, false, false);
        }
        self.close(now, id, Close::Fin);
    }

    /// The negotiation is done: the session takes the place of any other with its identity.
    pub(super) fn reinstate(
        &mut self,
        now: Instant,
        id: ConnId,
        negotiation: &Negotiation,
        mut response: LoginResponse,
        text: Vec<u8>,
    ) {
        let nexus = Nexus(self.next_nexus);
        self.next_nexus += 1;
        let Constants { isid, cmd_sn, .. } = negotiation.constants.expect("a request came");
        let identity = Identity {
            initiator: negotiation.initiator.clone(),
            isid,
            group: self.conns[&id].group,
        };
        let reinstates = self.end_predecessors(now, &identity);
        let waits_for = self.lingering(&identity);
        response.tsih = Tsih((nexus.0 % 0xffff + 1) as u16);
        let mut session = Session::new(
            nexus,
            id,
            identity,
            negotiation.discovery,
            negotiation.terms.clone(),
            CmdSn(cmd_sn),
            self.config.limits.window,
        );
        let waits_for = match self.config.reinstatement {
            Reinstatement::AnswerAfterDrain => waits_for,
            Reinstatement::ReadAfterDrain => {
                session.held_by = waits_for;
                Vec::new()
            }
            Reinstatement::AnswerAtOnce => Vec::new(),
        };
        let last = Final {
            response,
            text,
            session,
            waits_for,
            reinstates,
        };
        let conn = self
            .conns
            .get_mut(&id)
            .expect("the connection that logs in");
        conn.phase = Phase::Reinstating(Box::new(last));
        // `settle` finishes it, at once if nothing has to be awaited.
    }

    /// Ends the living sessions with this identity. True: there was one.
    pub(super) fn end_predecessors(&mut self, now: Instant, identity: &Identity) -> bool {
        let old: Vec<ConnId> = self
            .sessions
            .values()
            .filter(|session| session.identity == *identity)
            .map(|session| session.conn)
            .collect();
        for conn in &old {
            self.close(now, *conn, Close::Fin);
        }
        !old.is_empty()
    }

    /// Ended sessions with this identity whose commands still run.
    pub(super) fn lingering(&self, identity: &Identity) -> Vec<Nexus> {
        let same = self.lingering.iter().filter(|(other, _)| other == identity);
        same.map(|(_, nexus)| *nexus).collect()
    }

    pub(super) fn finish_login(&mut self, now: Instant, id: ConnId) {
        let Some(Phase::Reinstating(last)) = self.conns.get_mut(&id).map(|conn| &mut conn.phase)
        else {
            return;
        };
        // Another login with the same identity may have come through while this one waited.
        let identity = last.session.identity.clone();
        if self.end_predecessors(now, &identity)
            && self.config.reinstatement == Reinstatement::AnswerAfterDrain
        {
            let waits = self.lingering(&identity);
            let busy = waits
                .iter()
                .any(|nexus| self.units.values().any(|unit| unit.busy(*nexus) > 0));
            if let (true, Some(Phase::Reinstating(last))) =
                (busy, self.conns.get_mut(&id).map(|conn| &mut conn.phase))
            {
                last.waits_for = waits;
                return;
            }
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Phase::Reinstating(last) = std::mem::replace(&mut conn.phase, Phase::Over) else {
            return;
        };
        let Final {
            mut response,
            text,
            session,
            reinstates,
            ..
        } = *last;
        response.numbers.stat_sn = conn.stat_sn;
        response.numbers.exp_cmd_sn = session.exp_cmd_sn;
        response.numbers.max_cmd_sn = session.max_cmd_sn();
        conn.stat_sn = conn.stat_sn.next();
        stream::put(&mut conn.output, &response.emit(), &text, false, false);
        conn.header_digest = session.terms.header_digest;
        conn.data_digest = session.terms.data_digest;
        conn.phase = Phase::Full(session.nexus);
        conn.last_received = now;
        let attention = if reinstates {
            Some(Code::NEXUS_LOSS)
        } else {
            self.config.first_attention
        };
        for unit in self.units.values_mut() {
            unit.join(session.nexus, attention);
        }
        self.counters.logins += 1;
        self.counters.reinstatements += u32::from(reinstates);
        self.sessions.insert(session.nexus, session);
        self.read(now, id);
    }
}
