//! Sequence numbers and their serial arithmetic (RFC 1982, 32 bits; RFC 7143, 4.2.2).

macro_rules! serial {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }

            /// This number plus `n`.
            #[must_use]
            pub fn plus(self, n: u32) -> Self {
                Self(self.0.wrapping_add(n))
            }

            /// Whether this number comes before `other`. Numbers 2^31 apart have no order; neither comes first.
            pub fn is_before(self, other: Self) -> bool {
                (other.0.wrapping_sub(self.0) as i32) > 0
            }

            /// Signed distance from `other` to this number.
            pub fn distance_from(self, other: Self) -> i32 {
                self.0.wrapping_sub(other.0) as i32
            }
        }
    };
}

serial! {
    /// Number of a command within a session. Ordered only by serial arithmetic.
    CmdSn
}
serial! {
    /// Number of a response within a connection. Ordered only by serial arithmetic.
    StatSn
}
serial! {
    /// Number of a data or R2T PDU within a task or burst.
    DataSn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wraps() {
        assert!(CmdSn(0).is_before(CmdSn(1)));
        assert!(CmdSn(0xffff_ffff).is_before(CmdSn(0)));
        assert!(!CmdSn(0).is_before(CmdSn(0)));
        assert_eq!(CmdSn(2).distance_from(CmdSn(0xffff_ffff)), 3);
    }

    #[test]
    fn opposite_numbers_have_no_order() {
        assert!(!CmdSn(0).is_before(CmdSn(0x8000_0000)));
        assert!(!CmdSn(0x8000_0000).is_before(CmdSn(0)));
    }
}
