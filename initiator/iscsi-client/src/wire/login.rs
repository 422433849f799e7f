//! Login Request and Login Response (RFC 7143, 11.12 and 11.13).

use super::{Bhs, CmdSn, Isid, Malformed, Opcode, StatSn, TargetNumbers, TaskTag, Tsih};

/// A stage of the login (CSG and NSG values).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// SecurityNegotiation (0).
    Security,
    /// LoginOperationalNegotiation (1).
    Operational,
    /// FullFeaturePhase (3).
    FullFeature,
}

impl Stage {
    fn parse(bits: u8) -> Result<Self, Malformed> {
        match bits & 0x03 {
            0 => Ok(Stage::Security),
            1 => Ok(Stage::Operational),
            3 => Ok(Stage::FullFeature),
            _ => Err(Malformed("login stage 2")),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Stage::Security => 0,
            Stage::Operational => 1,
            Stage::FullFeature => 3,
        }
    }
}

/// Our side of the login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// T bit with NSG: we are ready to move on to that stage.
    pub transit: Option<Stage>,
    /// C bit: the text goes on in the next PDU.
    pub continued: bool,
    /// CSG: the stage we are in.
    pub stage: Stage,
    /// Our half of the session's identity.
    pub isid: Isid,
    /// 0 for a new session.
    pub tsih: Tsih,
    /// One tag for the whole login.
    pub task: TaskTag,
    /// Connection within the session.
    pub cid: u16,
    /// Not advanced by login requests.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// Length of the text, in bytes.
    pub data_len: u32,
}

impl LoginRequest {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::LoginRequest);
        let flags = bhs.u8(1);
        Ok(Self {
            transit: if flags & 0x80 != 0 {
                Some(Stage::parse(flags)?)
            } else {
                None
            },
            continued: flags & 0x40 != 0,
            stage: Stage::parse(flags >> 2)?,
            isid: Isid(bhs.array(8)),
            tsih: Tsih(bhs.u16(14)),
            task: TaskTag(bhs.u32(16)),
            cid: bhs.u16(20),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::LoginRequest);
        bhs.set_immediate();
        bhs.put_u8(1, flags(self.transit, self.continued, self.stage));
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.isid.0);
        bhs.put_u16(14, self.tsih.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u16(20, self.cid);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs
    }
}

/// Status-Class and Status-Detail (RFC 7143, 11.13.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoginStatus {
    /// 0 success, 1 redirection, 2 initiator error, 3 target error.
    pub class: u8,
    /// Meaning depends on the class.
    pub detail: u8,
}

impl LoginStatus {
    /// The login goes on or is done.
    pub const SUCCESS: LoginStatus = LoginStatus {
        class: 0,
        detail: 0,
    };
}

/// The target's side of the login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginResponse {
    /// T bit with NSG: the target moves on to that stage.
    pub transit: Option<Stage>,
    /// C bit: the text goes on in the next PDU.
    pub continued: bool,
    /// CSG: the stage the target is in.
    pub stage: Stage,
    /// Highest version the target speaks.
    pub version_max: u8,
    /// Version in use.
    pub version_active: u8,
    /// Echo of our ISID.
    pub isid: Isid,
    /// The new session's handle, in the final response.
    pub tsih: Tsih,
    /// Echo of our tag.
    pub task: TaskTag,
    /// Counters; not valid unless the status is success.
    pub numbers: TargetNumbers,
    /// Outcome.
    pub status: LoginStatus,
    /// Length of the text, in bytes.
    pub data_len: u32,
}

impl LoginResponse {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::LoginResponse);
        let bits = bhs.u8(1);
        let status = LoginStatus {
            class: bhs.u8(36),
            detail: bhs.u8(37),
        };
        // The stage bits of a refusal are not defined; a refusal must be read for its status whatever they say.
        let refused = status.class != 0;
        let stage = |bits| match Stage::parse(bits) {
            Err(_) if refused => Ok(Stage::Security),
            stage => stage,
        };
        Ok(Self {
            transit: if bits & 0x80 != 0 {
                Some(stage(bits)?)
            } else {
                None
            },
            continued: bits & 0x40 != 0,
            stage: stage(bits >> 2)?,
            version_max: bhs.u8(2),
            version_active: bhs.u8(3),
            isid: Isid(bhs.array(8)),
            tsih: Tsih(bhs.u16(14)),
            task: TaskTag(bhs.u32(16)),
            numbers: TargetNumbers::parse(bhs),
            status,
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::LoginResponse);
        bhs.put_u8(1, flags(self.transit, self.continued, self.stage));
        bhs.put_u8(2, self.version_max);
        bhs.put_u8(3, self.version_active);
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.isid.0);
        bhs.put_u16(14, self.tsih.0);
        bhs.put_u32(16, self.task.0);
        self.numbers.emit(&mut bhs);
        bhs.put_u8(36, self.status.class);
        bhs.put_u8(37, self.status.detail);
        bhs
    }
}

fn flags(transit: Option<Stage>, continued: bool, stage: Stage) -> u8 {
    let transit = transit.map_or(0, |next| 0x80 | next.bits());
    let continued = if continued { 0x40 } else { 0 };
    transit | continued | (stage.bits() << 2)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const ISID: Isid = Isid([0x80, 0x81, 0x82, 0x83, 0x84, 0x85]);
    const REQUEST: LoginRequest = LoginRequest {
        transit: Some(Stage::FullFeature),
        continued: false,
        stage: Stage::Operational,
        isid: ISID,
        tsih: Tsih(0x9a9b),
        task: TaskTag(0x1111_1111),
        cid: 0x0c1d,
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
        data_len: 300,
    };
    const RESPONSE: LoginResponse = LoginResponse {
        transit: Some(Stage::Operational),
        continued: false,
        stage: Stage::Security,
        version_max: 1,
        version_active: 0,
        isid: ISID,
        tsih: Tsih(0x9a9b),
        task: TaskTag(0x1111_1111),
        numbers: NUMBERS,
        status: LoginStatus::SUCCESS,
        data_len: 300,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let request = header([
            0x4387_0000, 300, 0x8081_8283, 0x8485_9a9b, 0x1111_1111, 0x0c1d_0000, 0xcccc_cccc,
            0xeeee_eeee, 0, 0, 0, 0,
        ]);
        assert_eq!(REQUEST.emit(), request);
        assert_eq!(LoginRequest::parse(&request), Ok(REQUEST));
        #[rustfmt::skip]
        let response = header([
            0x2381_0100, 300, 0x8081_8283, 0x8485_9a9b, 0x1111_1111, 0, 0x5151_5151, 0xecec_ecec,
            0x3c3c_3c3c, 0, 0, 0,
        ]);
        assert_eq!(RESPONSE.emit(), response);
        assert_eq!(LoginResponse::parse(&response), Ok(RESPONSE));
    }

    #[test]
    fn a_refusal_is_read_whatever_its_stage_bits() {
        let mut bhs = RESPONSE.emit();
        bhs.put_u8(1, 0x8a);
        assert_eq!(LoginResponse::parse(&bhs), Err(Malformed("login stage 2")));
        bhs.put_u8(36, 2);
        bhs.put_u8(37, 3);
        let status = LoginResponse::parse(&bhs).map(|it| it.status);
        assert_eq!(
            status,
            Ok(LoginStatus {
                class: 2,
                detail: 3
            })
        );
    }

    #[test]
    fn next_stage_without_transit_is_reserved() {
        let mut bhs = RESPONSE.emit();
        bhs.put_u8(1, 0x06);
        let parsed = LoginResponse::parse(&bhs).unwrap();
        assert_eq!((parsed.transit, parsed.stage), (None, Stage::Operational));
    }

    fn stage() -> impl Strategy<Value = Stage> {
        prop_oneof![
            Just(Stage::Security),
            Just(Stage::Operational),
            Just(Stage::FullFeature)
        ]
    }

    proptest! {
        #[test]
        fn round_trip(
            transit in proptest::option::of(stage()), continued: bool, stage in stage(),
            isid: [u8; 6], halves: [u16; 2], words: [u32; 3], bytes: [u8; 4], numbers in numbers(),
            data_len in data_len(),
        ) {
            let request = LoginRequest {
                transit,
                continued,
                stage,
                isid: Isid(isid),
                tsih: Tsih(halves[0]),
                task: TaskTag(words[0]),
                cid: halves[1],
                cmd_sn: CmdSn(words[1]),
                exp_stat_sn: StatSn(words[2]),
                data_len,
            };
            prop_assert_eq!(LoginRequest::parse(&request.emit()), Ok(request));
            let response = LoginResponse {
                transit,
                continued,
                stage,
                version_max: bytes[0],
                version_active: bytes[1],
                isid: Isid(isid),
                tsih: Tsih(halves[0]),
                task: TaskTag(words[0]),
                numbers,
                status: LoginStatus { class: bytes[2], detail: bytes[3] },
                data_len,
            };
            prop_assert_eq!(LoginResponse::parse(&response.emit()), Ok(response));
        }
    }
}
