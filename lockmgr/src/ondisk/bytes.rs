//! Little-endian fields at fixed places of a record.

/// A field of a record: what it is called and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    /// The name that sanlock's own tools print.
    pub name: &'static str,
    /// Bytes from the start of the sector.
    pub offset: usize,
}

impl Field {
    pub(super) const fn new(name: &'static str, offset: usize) -> Field {
        Field { name, offset }
    }

    /// The `N` bytes of this field. The record's length is checked before any field is read.
    fn array<const N: usize>(self, record: &[u8]) -> [u8; N] {
        *record[self.offset..]
            .first_chunk()
            .expect("the record is long enough for its fields")
    }

    pub(super) fn u16(self, record: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(record))
    }

    pub(super) fn u32(self, record: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(record))
    }

    pub(super) fn u64(self, record: &[u8]) -> u64 {
        u64::from_le_bytes(self.array(record))
    }

    pub(super) fn bytes<const N: usize>(self, record: &[u8]) -> [u8; N] {
        self.array(record)
    }

    pub(super) fn put(self, record: &mut [u8], bytes: &[u8]) {
        record[self.offset..self.offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn put_u16(self, record: &mut [u8], value: u16) {
        self.put(record, &value.to_le_bytes());
    }

    pub(super) fn put_u32(self, record: &mut [u8], value: u32) {
        self.put(record, &value.to_le_bytes());
    }

    pub(super) fn put_u64(self, record: &mut [u8], value: u64) {
        self.put(record, &value.to_le_bytes());
    }
}
