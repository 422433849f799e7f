//! What the unit says of itself: INQUIRY, VPD pages, READ CAPACITY(16), MODE SENSE(10), RTPG.

use super::{AluaState, Group, Identity, LunConfig};

/// Standard INQUIRY data.
pub(super) fn inquiry(config: &LunConfig) -> Vec<u8> {
    let mut data = vec![0; 36];
    data[2] = 0x06; // SPC-4
    data[3] = 0x02;
    data[4] = 31;
    data[5] = match (config.alua, config.alua_explicit) {
        (true, explicit) => 0x10 | if explicit { 0x20 } else { 0 },
        (false, _) => 0,
    };
    data[7] = 0x02; // CmdQue
    put_text(&mut data[8..16], &config.identity.vendor);
    put_text(&mut data[16..32], &config.identity.product);
    put_text(&mut data[32..36], "1");
    data
}

/// INQUIRY data of a LUN without a logical unit.
pub(super) fn inquiry_of_nothing() -> Vec<u8> {
    let mut data = vec![0; 36];
    data[0] = 0x7f;
    data[4] = 31;
    data
}

/// A VPD page, or `None` if the unit lacks it. `group` and `port` are those of the asking nexus.
pub(super) fn vital(config: &LunConfig, page: u8, group: Group, port: u16) -> Option<Vec<u8>> {
    let body = match page {
        0x00 => vec![0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2],
        0x80 => config.identity.serial.clone().into_bytes(),
        0x83 => designators(config, group, port),
        0xb0 => {
            let mut body = vec![0; 60];
            body[1] = 1; // COMPARE AND WRITE: one block
            body[4..8].copy_from_slice(&config.max_transfer_blocks.to_be_bytes());
            if config.thin {
                body[16..20].copy_from_slice(&config.max_unmap_blocks.to_be_bytes());
                body[20..24].copy_from_slice(&config.max_unmap_descriptors.to_be_bytes());
                body[24..28].copy_from_slice(&1u32.to_be_bytes());
            }
            body[32..40].copy_from_slice(&config.max_write_same_blocks.to_be_bytes());
            body
        }
        0xb1 => {
            let mut body = vec![0; 60];
            body[1] = if config.rotational { 0 } else { 1 };
            if config.rotational {
                body[0..2].copy_from_slice(&7200u16.to_be_bytes());
            }
            body
        }
        0xb2 => {
            let flags = if config.thin { 0x80 | 0x40 | 0x04 } else { 0 };
            vec![0, flags, if config.thin { 2 } else { 0 }, 0]
        }
        _ => return None,
    };
    let mut data = vec![0, page];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    Some(data)
}

fn designators(config: &LunConfig, Group(group): Group, port: u16) -> Vec<u8> {
    let Identity {
        naa,
        vendor,
        serial,
        ..
    } = &config.identity;
    let mut body = vec![0x01, 0x03, 0, naa.len() as u8];
    body.extend(naa);
    let mut text = vec![b' '; 8];
    put_text(&mut text, vendor);
    text.extend(serial.as_bytes());
    body.extend([0x02, 0x01, 0, text.len() as u8]);
    body.extend(text);
    // Protocol iSCSI with PIV, association target port: relative port, group.
    for (kind, id) in [(0x4, port), (0x5, group)] {
        body.extend([0x51, 0x80 | 0x10 | kind, 0, 4, 0, 0]);
        body.extend(id.to_be_bytes());
    }
    body
}

/// READ CAPACITY(16) data.
pub(super) fn capacity(config: &LunConfig, blocks: u64) -> Vec<u8> {
    let mut data = vec![0; 32];
    data[0..8].copy_from_slice(&(blocks - 1).to_be_bytes());
    data[8..12].copy_from_slice(&config.block_size.to_be_bytes());
    data[12] = if config.protected { 0x01 } else { 0 };
    data[13] = config.physical_exponent;
    data[14] = if config.thin { 0xc0 } else { 0 };
    data
}

/// MODE SENSE(10) data, or `None` for a page the unit lacks.
pub(super) fn mode(config: &LunConfig, page: u8) -> Option<Vec<u8>> {
    let caching = || {
        let mut page = vec![0; 20];
        page[0] = 0x08;
        page[1] = 18;
        page[2] = if config.write_cache { 0x04 } else { 0 };
        page
    };
    let control = || {
        let mut page = vec![0; 12];
        page[0] = 0x0a;
        page[1] = 10;
        page[2] = if config.task_set_per_nexus { 0x20 } else { 0 };
        page[3] = 0x10; // free reordering of simple commands
        page
    };
    let pages = match page {
        0x08 => caching(),
        0x0a => control(),
        0x3f => [caching(), control()].concat(),
        _ => return None,
    };
    let mut data = vec![0; 8];
    data[3] = if config.read_only { 0x80 } else { 0 } | 0x10; // DPOFUA
    data.extend(pages);
    let len = (data.len() - 2) as u16;
    data[0..2].copy_from_slice(&len.to_be_bytes());
    Some(data)
}

/// REPORT TARGET PORT GROUPS data for groups with one port each; with the extended header if a time is given.
pub(super) fn groups(
    groups: impl Iterator<Item = (Group, AluaState, bool, u16)>,
    transition_seconds: Option<u8>,
) -> Vec<u8> {
    let mut data = vec![0; 4];
    if let Some(seconds) = transition_seconds {
        data.extend([0x10, seconds, 0, 0]);
    }
    for (Group(group), state, preferred, port) in groups {
        data.push(if preferred { 0x80 } else { 0 } | state as u8);
        data.push(0xcf);
        data.extend(group.to_be_bytes());
        data.extend([0, 2, 0, 1, 0, 0]);
        data.extend(port.to_be_bytes());
    }
    let len = (data.len() - 4) as u32;
    data[0..4].copy_from_slice(&len.to_be_bytes());
    data
}

fn put_text(into: &mut [u8], text: &str) {
    into.fill(b' ');
    for (to, from) in into.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}
