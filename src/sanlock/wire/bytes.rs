//! Fields of C structs: host byte order, at fixed places.

use lockmgr::ondisk::{NAME_LEN, Name};

/// Where a field lies, in bytes from the start of its struct.
///
/// Structs are cut out of the stream by their size before a field is read, so that every field is there.
#[derive(Clone, Copy)]
pub(super) struct At(pub usize);

impl At {
    pub fn array<const N: usize>(self, record: &[u8]) -> [u8; N] {
        *record[self.0..]
            .first_chunk()
            .expect("the struct is long enough for its fields")
    }

    pub fn u32(self, record: &[u8]) -> u32 {
        u32::from_ne_bytes(self.array(record))
    }

    pub fn i32(self, record: &[u8]) -> i32 {
        i32::from_ne_bytes(self.array(record))
    }

    pub fn u64(self, record: &[u8]) -> u64 {
        u64::from_ne_bytes(self.array(record))
    }

    pub fn name(self, record: &[u8]) -> Name {
        Name::from_disk(self.array::<NAME_LEN>(record))
    }

    /// The bytes before the first NUL of a field of `len` bytes; its last byte is a NUL, whatever was sent.
    pub fn c_string(self, record: &[u8], len: usize) -> &[u8] {
        let field = &record[self.0..self.0 + len - 1];
        let end = field.iter().position(|&b| b == 0).unwrap_or(len - 1);
        &field[..end]
    }

    pub fn put(self, record: &mut [u8], bytes: &[u8]) {
        record[self.0..self.0 + bytes.len()].copy_from_slice(bytes);
    }

    pub fn put_u32(self, record: &mut [u8], value: u32) {
        self.put(record, &value.to_ne_bytes());
    }

    pub fn put_i32(self, record: &mut [u8], value: i32) {
        self.put(record, &value.to_ne_bytes());
    }

    pub fn put_u64(self, record: &mut [u8], value: u64) {
        self.put(record, &value.to_ne_bytes());
    }

    pub fn put_name(self, record: &mut [u8], name: Name) {
        self.put(record, &name.to_disk());
    }

    /// At most `len - 1` bytes, so that a NUL follows.
    pub fn put_c_string(self, record: &mut [u8], text: &[u8], len: usize) {
        self.put(record, &text[..text.len().min(len - 1)]);
    }
}
