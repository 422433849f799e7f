//! A text exchange in full feature phase (RFC 7143, 11.10 and 11.11): one request, an answer over any number
//! of responses, collected up to a bound.

use crate::wire::{Lun, TextResponse, TransferTag};

use super::Closed;

/// The exchange under way, or the last one.
#[derive(Debug, Default)]
pub(super) struct TextExchange {
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    empty_responses: u32,
}

/// What to send next in an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TextTurn {
    /// The request's own text.
    Opening,
    /// An empty request that asks for more.
    Continuation { lun: Lun, transfer: TransferTag },
}

impl TextExchange {
    /// Starts over.
    pub(super) fn start(&mut self, text: &[u8]) {
        self.request.clear();
        self.request.extend_from_slice(text);
        self.response.clear();
        self.empty_responses = 0;
    }

    /// Takes a response; `None` if the exchange is complete.
    pub(super) fn answer(
        &mut self,
        response: &TextResponse,
        text: &[u8],
    ) -> Result<Option<TextTurn>, Closed> {
        if self.response.len() + text.len() > RESPONSE_MAX {
            return Err(Closed::Protocol("text response longer than 1 MiB"));
        }
        self.response.extend_from_slice(text);
        if response.last {
            // LIO leaves its transfer tag in the last response of several; the exchange is over all the same.
            return Ok(None);
        }
        if text.is_empty() {
            self.empty_responses += 1;
            if self.empty_responses > EMPTY_RESPONSES_MAX {
                return Err(Closed::Protocol("text exchange without progress"));
            }
        }
        Ok(Some(TextTurn::Continuation {
            lun: response.lun,
            transfer: response.transfer,
        }))
    }
}

const RESPONSE_MAX: usize = 1 << 20;
const EMPTY_RESPONSES_MAX: u32 = 16;
