//! A client's WebSocket bytes: however they are cut, the decoder says the same.

use bytes::Bytes;
use xpush_wire::ws::{Decoder, Error, Message, Opcode, frames, write_close, write_frame};

/// The first byte chooses the limit, the second the size of the pieces; the rest is what the client sends.
pub(crate) fn run(data: &[u8]) {
    let [limit, piece, stream @ ..] = data else { return };
    let limit = match limit {
        0xff => usize::MAX,
        limit => usize::from(*limit) * 16,
    };
    let whole = answers(stream, stream.len().max(1), limit);
    assert_eq!(answers(stream, usize::from(*piece).max(1), limit), whole);
    assert_eq!(answers(stream, 1, limit), whole);

    // Not its contract, but it must not panic either.
    let _ = frames(&Bytes::copy_from_slice(stream)).count();
}

/// The server's echo of all that it understood, and why it stopped.
fn answers(stream: &[u8], piece: usize, limit: usize) -> (Vec<u8>, Option<Error>) {
    let mut stream = stream.to_vec();
    let mut decoder = Decoder::new();
    let mut echo = Vec::new();
    for mut input in stream.chunks_mut(piece) {
        loop {
            match decoder.next(&mut input, limit) {
                Ok(Some(Message::Text(text))) => write(Opcode::Text, text.as_bytes(), limit, &mut echo),
                Ok(Some(Message::Binary(data))) => write(Opcode::Binary, data, limit, &mut echo),
                Ok(Some(Message::Ping(data))) => write(Opcode::Ping, data, 125, &mut echo),
                Ok(Some(Message::Pong(data))) => write(Opcode::Pong, data, 125, &mut echo),
                Ok(Some(Message::Close(code, reason))) => {
                    assert!(reason.len() <= 123);
                    write_close(code, reason, &mut echo);
                }
                Ok(None) => break,
                Err(error) => return (echo, Some(error)),
            }
        }
        assert!(input.is_empty(), "more is asked for before all is used");
    }
    (echo, None)
}

fn write(opcode: Opcode, payload: &[u8], limit: usize, echo: &mut Vec<u8>) {
    assert!(payload.len() <= limit);
    let start = echo.len();
    write_frame(opcode, payload, echo);
    let chunk = Bytes::copy_from_slice(&echo[start..]);
    let found: Vec<_> = frames(&chunk).collect();
    assert_eq!(found, [(opcode, Bytes::copy_from_slice(payload))]);
}
