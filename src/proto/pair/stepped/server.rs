//! The server's end: its handlers and what they send, and what it makes of what arrives.

use super::{Handling, Pair, size_of_item};
use crate::proto::ServerEvent;
use crate::proto::wire::{self, Code, Failure, Message, control};

impl Pair {
    pub(super) fn item(&mut self, n: usize) {
        let Handling { id, call, .. } = self.handling[n];
        let number = &mut self.calls[call as usize].sent;
        let mut out = Vec::new();
        wire::item(&mut out, id);
        out.extend_from_slice(&call.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.resize(size_of_item(*number), 0);
        *number += 1;
        assert!(self.server.pay(id, out.len()).is_some(), "there is credit");
        self.to_client.push_back(out);
    }

    pub(super) fn at_server(&mut self, bytes: &[u8]) {
        let identity = self.ours.identity();
        match self.server.receive(&identity, bytes).expect("a message") {
            ServerEvent::Hello => {
                let mut out = Vec::new();
                self.server.greet(&identity, &mut out);
                self.to_client.push_back(out);
            }
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            }
            | ServerEvent::Open {
                id,
                method,
                timeout,
                payload,
            } => {
                let call = self.arrive(id, payload);
                let opens = matches!(wire::parse(bytes), Ok(Message::Open { .. }));
                assert_eq!(opens, self.is_stream(call));
                if method >= control::FIRST {
                    self.answer(id, call, None);
                } else if self.draining {
                    self.answer(id, call, Some(Code::Unavailable));
                } else {
                    let deadline = timeout.map(|timeout| self.now + timeout);
                    self.handling.push(Handling {
                        id,
                        call,
                        deadline,
                        cancelled: false,
                    });
                }
            }
            ServerEvent::Reject { id, failure } => {
                assert_eq!(failure.code, Code::Incompatible, "a client knows the limit");
                assert!(!self.scenario.compatible);
                let (Ok(Message::Request { payload, .. }) | Ok(Message::Open { payload, .. })) =
                    wire::parse(bytes)
                else {
                    panic!("only a request is rejected");
                };
                let call = self.arrive(id, payload);
                self.calls[call as usize].answers += 1;
                self.send_to_client(|out| wire::error(out, id, &failure));
            }
            ServerEvent::Cancel { id } => {
                let handling = self.handling.iter_mut().find(|handling| handling.id == id);
                handling.expect("a request that is under way").cancelled = true;
            }
            ServerEvent::Nothing => {
                let (Ok(Message::Cancel { id }) | Ok(Message::Credit { id, .. })) =
                    wire::parse(bytes)
                else {
                    panic!("nothing else means nothing");
                };
                assert!(self.handling.iter().all(|handling| handling.id != id));
            }
            ServerEvent::Credit { id } => {
                assert!(self.handling.iter().any(|handling| handling.id == id));
            }
            ServerEvent::Notify { .. } => panic!("nobody sent one"),
        }
    }

    fn arrive(&mut self, id: u32, payload: &[u8]) -> u32 {
        let n = u32::from_le_bytes(payload.try_into().expect("a number"));
        let call = &mut self.calls[n as usize];
        assert_eq!(call.id, Some(id));
        assert!(!call.arrived, "each request arrives once");
        call.arrived = true;
        n
    }

    pub(super) fn answer(&mut self, id: u32, call: u32, why_not: Option<Code>) {
        assert!(self.server.answer(id), "an unanswered request");
        assert!(!self.server.answer(id), "which is answered now");
        self.calls[call as usize].answers += 1;
        let text = call.to_string();
        let stream = self.is_stream(call);
        self.send_to_client(|out| match why_not {
            None if stream => wire::end(out, id),
            None => {
                wire::reply(out, id);
                out.extend_from_slice(&call.to_le_bytes());
            }
            Some(code) => wire::error(out, id, &Failure::new(code, &text)),
        });
        assert_eq!(self.server.in_flight(), self.handling.len() + 1);
        self.server.answered();
    }

    pub(super) fn send_to_client(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.to_client.push_back(out);
    }

    /// The server closes; what it has sent is still on its way.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.handling.clear();
        self.to_server.clear();
    }
}
