//! PDUs out of a byte stream and into one (RFC 7143, 11.2).

use iscsi_client::wire::digest::{DIGEST_LEN, digest};
use iscsi_client::wire::{BHS_LEN, Bhs, padding};

/// A PDU with its data.
#[derive(Clone, Debug)]
pub(super) struct Pdu {
    pub(super) bhs: Bhs,
    pub(super) data: Vec<u8>,
}

/// Why the stream cannot be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    HeaderDigest,
    DataDigest,
    TooLong,
    PaddingNotZero,
}

/// Takes the first PDU off `input`, if it is complete.
pub(super) fn take(
    input: &mut Vec<u8>,
    header_digest: bool,
    data_digest: bool,
    data_len_max: usize,
) -> Result<Option<Pdu>, Broken> {
    let Some(header) = input.first_chunk::<BHS_LEN>() else {
        return Ok(None);
    };
    let bhs = Bhs(*header);
    let data_len = bhs.data_len();
    if data_len > data_len_max {
        return Err(Broken::TooLong);
    }
    let header_end = BHS_LEN + bhs.ahs_len();
    let data_start = header_end + if header_digest { DIGEST_LEN } else { 0 };
    let data_end = data_start + data_len + padding(data_len);
    let has_digest = data_digest && data_len > 0;
    let end = data_end + if has_digest { DIGEST_LEN } else { 0 };
    if input.len() < end {
        return Ok(None);
    }
    if header_digest && digest(&input[..header_end], 0) != input[header_end..data_start] {
        return Err(Broken::HeaderDigest);
    }
    if has_digest && digest(&input[data_start..data_end], 0) != input[data_end..end] {
        return Err(Broken::DataDigest);
    }
    if input[data_start + data_len..data_end]
        .iter()
        .any(|byte| *byte != 0)
    {
        return Err(Broken::PaddingNotZero);
    }
    let data = input[data_start..data_start + data_len].to_vec();
    input.drain(..end);
    Ok(Some(Pdu { bhs, data }))
}

/// Appends a PDU to `output`.
pub(super) fn put(
    output: &mut Vec<u8>,
    bhs: &Bhs,
    data: &[u8],
    header_digest: bool,
    data_digest: bool,
) {
    output.extend(bhs.0);
    if header_digest {
        output.extend(digest(&bhs.0, 0));
    }
    if !data.is_empty() {
        output.extend(data);
        output.resize(output.len() + padding(data.len()), 0);
        if data_digest {
            output.extend(digest(data, padding(data.len())));
        }
    }
}
