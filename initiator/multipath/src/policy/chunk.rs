//! How long the pieces of a bulk request are: as many as there are paths, between 64 and 128 KiB each (SCHEDULING
//! section 6.4, point 2), and about equal, so that no crumb is left for a command of its own.
//!
//! Where a path is so slow that a small command would wait long behind 128 KiB, and where a piece more on one path than on
//! the other shows in the end, they are 64 KiB.
//!
//! Which commands may be cut at all is the caller's knowledge: reads and writes may; COMPARE AND WRITE, WRITE SAME,
//! UNMAP and atomic writes never.

use core::time::Duration;

use super::eta::transfer_time;

/// Longest chunk of a request that is spread, and shortest request that is.
pub const CHUNK_MAX: u32 = 128 * 1024;
/// Shortest chunk, the last one apart, and longest on slow paths.
pub const CHUNK_MIN: u32 = 64 * 1024;

/// What a chunk should take on the slowest path, at most: 128 KiB at 25 MB/s.
const CHUNK_TIME: Duration = Duration::from_millis(5);

/// Longest chunk where the slowest usable path delivers `rate` bytes per second.
pub fn chunk_max(rate: u64) -> u32 {
    if transfer_time(CHUNK_MAX.into(), rate) <= CHUNK_TIME {
        CHUNK_MAX
    } else {
        CHUNK_MIN
    }
}

/// Length in bytes of every chunk but the last of a request of `len` bytes; `len` if it stays whole. Never 0 for a
/// `len` above 0.
///
/// - `usable_paths`: how many it may be spread over; with one there is nothing to gain.
/// - `longest`: as [`chunk_max`] says, for a request that is spread.
/// - `granularity`: bytes, at least the block length: optimal transfer length granularity (VPD page B0h). Chunks are
///   multiples of it, and it goes before the 128 KiB.
/// - `transfer_max`: most bytes of one command; goes before all else. A multiple of the block length.
pub fn chunk_len(
    len: u32,
    usable_paths: u32,
    longest: u32,
    granularity: u32,
    transfer_max: u32,
) -> u32 {
    let granularity = granularity.max(1);
    let transfer_max = transfer_max.max(1);
    let wanted = if len < CHUNK_MAX || usable_paths < 2 {
        len
    } else {
        let chunks = usable_paths.min(len / CHUNK_MIN).max(len.div_ceil(longest));
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

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u32 = 1024;

    #[test]
    fn as_many_pieces_as_paths_within_bounds() {
        // (length, paths, granularity, most of one command) in KiB, and the chunk; on fast paths.
        let table = [
            // Never cut below 128 KiB.
            ((0, 2, 4, 1024), 0),
            ((4, 2, 4, 1024), 4),
            ((124, 2, 4, 1024), 124),
            // One path: only what a command cannot carry is cut.
            ((1024, 1, 4, 1024), 1024),
            ((1024, 1, 4, 512), 512),
            ((1024, 1, 48, 512), 480),
            // S / paths, from 64 to 128 KiB.
            ((128, 2, 4, 1024), 64),
            ((128, 8, 4, 1024), 64),
            ((160, 2, 4, 1024), 80),
            ((192, 8, 4, 1024), 64),
            ((256, 3, 4, 1024), 88),
            ((1024, 2, 4, 1024), 128),
            ((1024, 8, 4, 1024), 128),
            // Multiples of the granularity, which goes before the 128 KiB, and the command's limit before both.
            ((1024, 2, 96, 1024), 192),
            ((1024, 2, 1024, 2048), 1024),
            ((1024, 2, 4, 64), 64),
            ((1024, 2, 48, 64), 48),
            ((1024, 2, 256, 64), 64),
        ];
        for ((len, paths, granularity, most), chunk) in table {
            assert_eq!(
                chunk_len(len * KIB, paths, CHUNK_MAX, granularity * KIB, most * KIB),
                chunk * KIB,
                "{len} {paths} {granularity} {most}"
            );
        }
    }

    #[test]
    fn slow_paths_get_half_of_it() {
        for (rate, longest) in [
            (0, CHUNK_MIN),
            (11_770_000, CHUNK_MIN),
            (26_214_400, CHUNK_MAX),
            (117_700_000, CHUNK_MAX),
            (u64::MAX, CHUNK_MAX),
        ] {
            assert_eq!(chunk_max(rate), longest, "{rate}");
        }
        assert_eq!(
            chunk_len(512 * KIB, 2, CHUNK_MIN, 4 * KIB, 1024 * KIB),
            CHUNK_MIN
        );
    }

    #[test]
    fn no_number_is_too_strange() {
        let numbers = [0, 1, 511, 4096, 65_537, 131_072, 1 << 31, u32::MAX];
        for len in numbers {
            for paths in [0, 1, 2, 3, 8, u32::MAX] {
                for granularity in numbers {
                    for most in numbers {
                        let chunk = chunk_len(len, paths, CHUNK_MIN, granularity, most);
                        assert_eq!(chunk == 0, len == 0);
                        assert!(chunk <= len && (chunk <= most.max(1)));
                        let is_aligned = chunk == len || chunk.is_multiple_of(granularity.max(1));
                        assert!(is_aligned || most < granularity.max(1));
                    }
                }
            }
        }
    }
}
