//! The text of logins and text exchanges: `key=value` pairs, each ended by one NUL (RFC 7143, 6.1).
//!
//! A pair may be split over PDUs (C bit); [`Collector`] joins the pieces within bounds, [`decode`] reads the
//! whole, [`Text`] and [`Pieces`] go the other way. Nothing here knows what a key means.

/// Most bytes of one PDU's text while the login lasts: both sides assume the default
/// MaxRecvDataSegmentLength (RFC 7143, 13.12).
pub(crate) const PIECE_MAX: usize = 8192;

/// Most bytes of one logical text that we collect. A CHAP round with the longest legal values needs 5 KiB.
pub(crate) const TEXT_MAX: usize = 64 * 1024;

/// Most pairs in one logical text. The whole RFC knows about 40 keys.
const PAIRS_MAX: usize = 256;

/// Longest key name in bytes (RFC 7143, 6.1).
const KEY_MAX: usize = 63;

/// Reads a complete text. Fails with the rule that it breaks, also when a key comes twice.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<(&str, &str)>, &'static str> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in split(text)? {
        let (key, value) = pair?;
        if pairs.iter().any(|(seen, _)| *seen == key) {
            return Err("a key came twice in one text");
        }
        if pairs.len() == PAIRS_MAX {
            return Err("more than 256 keys in one text");
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The pairs of a complete text in order, repeated keys included (SendTargets repeats them by design).
pub(crate) fn split(
    text: &[u8],
) -> Result<impl Iterator<Item = Result<(&str, &str), &'static str>>, &'static str> {
    let body = match text {
        [] => text,
        [body @ .., 0] => body,
        _ => return Err("text does not end with NUL"),
    };
    Ok(body
        .split(|byte| *byte == 0)
        // Some targets put more than one NUL after a pair. An empty pair says nothing.
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let pair = core::str::from_utf8(pair).map_err(|_| "text is not UTF-8")?;
            let (key, value) = pair.split_once('=').ok_or("text has a pair without =")?;
            match key.len() {
                0 => Err("text has an empty key"),
                1..=KEY_MAX => Ok((key, value)),
                _ => Err("text has a key longer than 63 bytes"),
            }
        }))
}

/// Joins the pieces of one logical text.
#[derive(Debug, Default)]
pub(crate) struct Collector(Vec<u8>);

impl Collector {
    /// Appends one PDU's text.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        if piece.len() > PIECE_MAX {
            return Err("login response carries more than 8192 bytes");
        }
        if self.0.len() + piece.len() > TEXT_MAX {
            return Err("login text is longer than 64 KiB");
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// The whole text; the collector is empty again.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0)
    }
}

/// A text under construction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// Appends a pair.
    pub(crate) fn push(&mut self, key: &str, value: &str) {
        debug_assert!(!key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0'));
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }
}

/// A text on its way out, cut into PDUs.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    text: Vec<u8>,
    sent: usize,
}

impl Pieces {
    pub(crate) fn new(text: Text) -> Self {
        Self {
            text: text.0,
            sent: 0,
        }
    }

    /// The next PDU's text and whether more follows. The first piece exists even if the text is empty.
    pub(crate) fn next(&mut self) -> (Vec<u8>, bool) {
        let end = self.text.len().min(self.sent + PIECE_MAX);
        let piece = self.text[self.sent..end].to_vec();
        self.sent = end;
        (piece, self.has_more())
    }

    pub(crate) fn has_more(&self) -> bool {
        self.sent < self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_in_order() {
        assert_eq!(
            decode(b"A=1\0B=\0\0C=x=y\0"),
            Ok(vec![("A", "1"), ("B", ""), ("C", "x=y")])
        );
        assert_eq!(decode(b""), Ok(vec![]));
    }

    #[test]
    fn broken_texts_are_named() {
        assert_eq!(decode(b"A=1"), Err("text does not end with NUL"));
        assert_eq!(decode(b"A\0"), Err("text has a pair without ="));
        assert_eq!(decode(b"=1\0"), Err("text has an empty key"));
        assert_eq!(decode(b"A=1\0A=1\0"), Err("a key came twice in one text"));
        assert_eq!(decode(b"A=\xff\0"), Err("text is not UTF-8"));
        let long = [&[b'k'; 64][..], b"=1\0"].concat();
        assert_eq!(decode(&long), Err("text has a key longer than 63 bytes"));
    }

    #[test]
    fn too_many_pairs() {
        let text = |count| {
            let mut text = Text::default();
            (0..count).for_each(|i| text.push(&format!("X-{i}"), "1"));
            text.0
        };
        assert!(decode(&text(256)).is_ok());
        assert_eq!(decode(&text(257)), Err("more than 256 keys in one text"));
    }

    #[test]
    fn pieces_join_to_the_text() {
        let mut text = Text::default();
        text.push("X-long", &"v".repeat(3 * PIECE_MAX));
        let whole = text.0.clone();
        let (mut pieces, mut collector) = (Pieces::new(text), Collector::default());
        loop {
            let (piece, more) = pieces.next();
            assert!(piece.len() <= PIECE_MAX);
            collector.push(&piece).unwrap();
            if !more {
                break;
            }
        }
        assert_eq!(collector.take(), whole);
        assert_eq!(collector.take(), b"");
    }

    #[test]
    fn the_collector_is_bounded() {
        let mut collector = Collector::default();
        assert!(collector.push(&[0; PIECE_MAX + 1]).is_err());
        for _ in 0..TEXT_MAX / PIECE_MAX {
            collector.push(&[0; PIECE_MAX]).unwrap();
        }
        assert!(collector.push(&[0]).is_err());
    }
}
