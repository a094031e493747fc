//! Servers in C, and what our stream and the example `pipe_client` get from them.

use std::io;

use pipetalk::{LocalStream, Part, Stream};

use crate::c_peers::{C_BUFFER, SIZES, pattern};
use crate::programs::{CLIENTS, soon, with_c_peers};
use util::example;

const C_REPLY: &[u8] = b"answer from the server in C\0";

#[test]
fn our_stream_is_served_by_a_c_server() {
    with_c_peers("c-server", |case, c| {
        let mut server = case.listen(&c.server, &[&case.pipe]);
        let stream = LocalStream::connect(&case.name).unwrap();
        for message in ["hello from Rust", "and once more"] {
            stream
                .send(format!("{message}\0").as_bytes(), soon())
                .unwrap();
            assert_eq!(receive(&stream).unwrap(), C_REPLY);
            assert_eq!(server.line(), message);
        }
    });
}

#[test]
fn our_stream_gets_replies_of_any_size_from_a_c_server() {
    with_c_peers("c-server-sizes", |case, c| {
        for size in SIZES {
            let (name, pipe) = case.named(size);
            let _server = case.listen(&c.server, &[&pipe, &size.to_string()]);
            let stream = LocalStream::connect(&name).unwrap();

            stream.send(b"whole", soon()).unwrap();
            let reply = receive(&stream).unwrap();
            assert!(
                reply == pattern(size),
                "{size} bytes came as {}",
                reply.len()
            );

            stream.send(b"in parts", soon()).unwrap();
            assert_parts(&pattern(size), |buf| stream.recv(buf, soon()));

            // Sends and receives in one system call.
            let mut first = [0; C_BUFFER];
            let part = stream.transact(b"transact", &mut first, soon()).unwrap();
            let mut transacted = part.map(|part| (first, part));
            assert_parts(&pattern(size), |buf| match transacted.take() {
                None => stream.recv(buf, soon()),
                Some((first, part)) => {
                    buf.copy_from_slice(&first);
                    Ok(Some(part))
                }
            });
        }
    });
}

#[test]
fn a_c_server_gets_messages_of_any_size_from_our_stream() {
    with_c_peers("c-server-messages", |case, c| {
        let mut server = case.listen(&c.server, &[&case.pipe]);
        let stream = LocalStream::connect(&case.name).unwrap();
        for size in SIZES {
            stream.send(&pattern(size), soon()).unwrap();
            let line = server.line();
            assert!(
                line.as_bytes() == pattern(size),
                "{size} bytes came as {}",
                line.len()
            );
            assert_eq!(receive(&stream).unwrap(), C_REPLY);
        }
    });
}

#[test]
fn a_c_server_that_flushes_and_disconnects_is_the_end() {
    with_c_peers("c-server-end", |case, c| {
        for size in SIZES {
            let (name, pipe) = case.named(size);
            let _server = case.listen(&c.server, &[&pipe, &size.to_string(), "1"]);
            let stream = LocalStream::connect(&name).unwrap();
            stream.send(b"the only message", soon()).unwrap();
            let reply = receive(&stream).unwrap();
            assert!(
                reply == pattern(size),
                "{size} bytes came as {}",
                reply.len()
            );
            assert_eq!(receive(&stream), None);
            let error = stream.send(b"too late", soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn a_killed_c_server_is_the_end() {
    with_c_peers("c-server-killed", |case, c| {
        let server = case.listen(&c.server, &[&case.pipe]);
        let stream = LocalStream::connect(&case.name).unwrap();
        stream.send(b"hello\0", soon()).unwrap();
        assert_eq!(receive(&stream).unwrap(), C_REPLY);
        server.kill();
        assert_eq!(receive(&stream), None);
        let error = stream.send(b"too late", soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn several_of_our_streams_at_once_are_served_by_a_c_server() {
    with_c_peers("c-server-streams", |case, c| {
        let _server = case.listen(&c.server, &[&case.pipe, "5000"]);
        let streams: Vec<_> = (0..CLIENTS)
            .map(|_| LocalStream::connect(&case.name).unwrap())
            .collect();
        for stream in &streams {
            stream.send(b"all of us at once", soon()).unwrap();
        }
        for stream in streams.iter().rev() {
            assert!(receive(stream).unwrap() == pattern(5000));
        }
    });
}

#[test]
fn the_example_is_served_by_a_c_server() {
    with_c_peers("c-server-example", |case, c| {
        let mut server = case.listen(&c.server, &[&case.pipe]);
        let output = case.run(
            &example("pipe_client"),
            &["hello from the example", &case.name],
        );
        assert_printed(&output, C_REPLY);
        assert_eq!(server.line(), "hello from the example");
    });
}

#[test]
fn the_example_gets_replies_of_any_size_from_a_c_server() {
    with_c_peers("c-server-example-sizes", |case, c| {
        for size in SIZES {
            let (name, pipe) = case.named(size);
            let _server = case.listen(&c.server, &[&pipe, &size.to_string()]);
            let output = case.run(&example("pipe_client"), &["how long is it?", &name]);
            assert_printed(&output, &pattern(size));
        }
    });
}

#[test]
fn several_examples_at_once_are_served_by_a_c_server() {
    with_c_peers("c-server-examples", |case, c| {
        let mut server = case.listen(&c.server, &[&case.pipe]);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| case.start(&example("pipe_client"), &[&format!("I am {i}"), &case.name]))
            .collect();
        for client in clients {
            assert_printed(&client.output(), C_REPLY);
        }
        let mut lines: Vec<_> = (0..CLIENTS).map(|_| server.line()).collect();
        lines.sort_unstable();
        assert!(
            lines
                .into_iter()
                .eq((0..CLIENTS).map(|i| format!("I am {i}")))
        );
    });
}

fn receive(stream: &LocalStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let size = stream.recv_message(&mut message, soon()).unwrap()?;
    assert_eq!(size, message.len());
    Some(message)
}

/// Receives one message into the C programs' buffer, and checks how it comes in parts.
fn assert_parts(expected: &[u8], mut recv: impl FnMut(&mut [u8]) -> io::Result<Option<Part>>) {
    let mut buf = [0; C_BUFFER];
    let mut rest = expected;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(C_BUFFER));
        let part = recv(&mut buf).unwrap().unwrap();
        let expected = Part {
            len: chunk.len(),
            last: after.is_empty(),
        };
        assert_eq!(part, expected, "with {} bytes to come", rest.len());
        assert!(
            buf[..part.len] == *chunk,
            "with {} bytes to come",
            rest.len()
        );
        if part.last {
            break;
        }
        rest = after;
    }
}

/// The example prints the reply, without its closing NUL, as a line.
fn assert_printed(output: &[u8], reply: &[u8]) {
    let text = reply.strip_suffix(b"\0").unwrap_or(reply);
    assert!(
        output == [text, b"\n"].concat(),
        "a reply of {} bytes was printed as {} bytes: {}",
        reply.len(),
        output.len(),
        String::from_utf8_lossy(&output[..output.len().min(200)])
    );
}
