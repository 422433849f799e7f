//! How long the pieces of a bulk request are: as many as there are paths, between 64 and 128 KiB each (SCHEDULING
//! section 6.4, point 2), and about equal, so that no crumb is left for a command of its own.
//!
//! Which commands may be cut at all is the caller's knowledge: reads and writes may; COMPARE AND WRITE, WRITE SAME,
//! UNMAP and atomic writes never.

/// Longest chunk of a request that is spread, and shortest request that is.
pub const CHUNK_MAX: u32 = 128 * 1024;
/// Shortest chunk, the last one apart.
pub const CHUNK_MIN: u32 = 64 * 1024;

/// Length in bytes of every chunk but the last of a request of `len` bytes; `len` if it stays whole. Never 0 for a
/// `len` above 0.
///
/// - `usable_paths`: how many it may be spread over; with one there is nothing to gain.
/// - `granularity`: bytes, at least the block length: optimal transfer length granularity (VPD page B0h). Chunks are
///   multiples of it, and it goes before the 128 KiB.
/// - `transfer_max`: most bytes of one command; goes before all else. A multiple of the block length.
pub fn chunk_len(len: u32, usable_paths: u32, granularity: u32, transfer_max: u32) -> u32 {
    let granularity = granularity.max(1);
    let transfer_max = transfer_max.max(1);
    let wanted = if len < CHUNK_MAX || usable_paths < 2 {
        len
    } else {
        let chunks = usable_paths
            .min(len / CHUNK_MIN)
            .max(len.div_ceil(CHUNK_MAX));
        len.div_ceil(chunks)
            .checked_next_multiple_of(granularity)
            .unwrap_or(len)
            .min(len)
    };
    if wanted <= transfer_max {
        return wanted;
    }
    match transfer_max - transfer_max % granularity {
        0 => transfer_max,
        aligned => aligned,
    }
}
