//! The Basic Header Segment: 48 bytes that open every PDU (RFC 7143, 11.2.1).

/// Length of a Basic Header Segment in bytes.
pub const BHS_LEN: usize = 48;

/// Longest Additional Header Segments of one PDU in bytes (TotalAHSLength counts words in one byte).
pub const AHS_LEN_MAX: usize = 255 * 4;

/// A header that says something illegal. The text names the field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

/// PDU kinds (RFC 7143, 11.2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Opcode {
    NopOut = 0x00,
    ScsiCommand = 0x01,
    TaskManagementRequest = 0x02,
    LoginRequest = 0x03,
    TextRequest = 0x04,
    DataOut = 0x05,
    LogoutRequest = 0x06,
    Snack = 0x10,
    NopIn = 0x20,
    ScsiResponse = 0x21,
    TaskManagementResponse = 0x22,
    LoginResponse = 0x23,
    TextResponse = 0x24,
    DataIn = 0x25,
    LogoutResponse = 0x26,
    R2t = 0x31,
    AsyncMessage = 0x32,
    Reject = 0x3f,
}

impl Opcode {
    /// The opcode with this number, without the immediate bit.
    pub fn from_byte(byte: u8) -> Option<Opcode> {
        use Opcode::*;
        [
            NopOut,
            ScsiCommand,
            TaskManagementRequest,
            LoginRequest,
            TextRequest,
            DataOut,
            LogoutRequest,
            Snack,
            NopIn,
            ScsiResponse,
            TaskManagementResponse,
            LoginResponse,
            TextResponse,
            DataIn,
            LogoutResponse,
            R2t,
            AsyncMessage,
            Reject,
        ]
        .into_iter()
        .find(|opcode| *opcode as u8 == byte)
    }
}

/// Bytes of zeros that bring `len` to the next multiple of four.
pub fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// The 48 bytes, with accessors at the offsets the RFC draws. An accessor panics only on an offset that is
/// wrong in our own source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bhs(pub [u8; BHS_LEN]);

impl Bhs {
    /// An all-zero header of this kind.
    pub fn new(opcode: Opcode) -> Self {
        let mut bytes = [0; BHS_LEN];
        bytes[0] = opcode as u8;
        Bhs(bytes)
    }

    /// The opcode's six bits, known or not.
    pub fn opcode_byte(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The opcode, if this specification knows it.
    pub fn opcode(&self) -> Option<Opcode> {
        Opcode::from_byte(self.opcode_byte())
    }

    /// The I bit: delivered at once, outside the CmdSN order.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Sets the I bit.
    pub fn set_immediate(&mut self) {
        self.0[0] |= 0x40;
    }

    /// Length of the additional header segments in bytes.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength in bytes: neither padding nor digests.
    pub fn data_len(&self) -> usize {
        (usize::from(self.0[5]) << 16) | (usize::from(self.0[6]) << 8) | usize::from(self.0[7])
    }

    /// Sets DataSegmentLength.
    ///
    /// # Panics
    /// If `len` needs more than 24 bits.
    pub fn set_data_len(&mut self, len: usize) {
        assert!(len < 1 << 24, "data segment of {len} bytes");
        self.0[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
    }

    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn put_u8(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    pub(crate) fn put_u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub(crate) fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    pub(crate) fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Checks that the header is of the kind that a parser was written for. A wrong kind is our own mistake
    /// in dispatch, so it is an assertion.
    pub(crate) fn expect(&self, opcode: Opcode) {
        assert_eq!(
            self.opcode_byte(),
            opcode as u8,
            "parser called for another PDU"
        );
    }
}
