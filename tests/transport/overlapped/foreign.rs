//! Peers that know nothing of this crate: clients opened by the standard library, servers by interprocess.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::thread;

use interprocess::os::windows::named_pipe::{PipeListenerOptions, PipeMode, pipe_mode};
use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use pipetalk::{ConnectOptions, Deadline, ListenOptions, ReadMode};

use crate::overlapped::harness::*;

fn open(pipe: &str) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(pipe)
        .unwrap()
}

fn server(name: &PortableName, mode: PipeMode) -> PipeListenerOptions<'static> {
    PipeListenerOptions::new().path(name.pipe()).mode(mode)
}

#[test]
fn a_client_that_writes_and_reads_bytes() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        let pipe = name.pipe();
        let client = thread::spawn(move || {
            let mut client = open(&pipe);
            for n in 0..100 {
                // Each write is a message.
                let message = content(n, n * 700 + 1);
                assert_eq!(client.write(&message).unwrap(), message.len());
            }
            for n in 0..100 {
                // In two pieces, wherever messages end.
                let mut bytes = vec![0; n * 700 + 1];
                let (head, tail) = bytes.split_at_mut(n);
                client.read_exact(head).unwrap();
                client.read_exact(tail).unwrap();
                assert!(bytes == content(n, n * 700 + 1));
            }
        });
        let server = listener.accept(soon()).await.unwrap();
        for n in 0..100 {
            assert!(recv(&server).await == Some(content(n, n * 700 + 1)));
        }
        for n in 0..100 {
            send(&server, &content(n, n * 700 + 1)).await;
        }
        assert_eq!(recv(&server).await, None);
        client.join().unwrap();
    });
}

#[test]
fn a_client_that_takes_a_message_slowly_and_leaves_in_its_middle() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = ListenOptions::new()
            .buffer_size(4_096)
            .bind_tokio(&*name)
            .unwrap();
        let pipe = name.pipe();
        let client = thread::spawn(move || {
            let mut client = open(&pipe);
            let mut bytes = vec![0; 100_000];
            for part in bytes.chunks_mut(10_000) {
                client.read_exact(part).unwrap();
            }
            bytes
        });
        let server = listener.accept(soon()).await.unwrap();
        let message = content(0, HUGE);
        let sent = server.send(&message, soon()).await;
        assert_eq!(kind(sent), ErrorKind::BrokenPipe);
        assert!(client.join().unwrap() == message[..100_000]);
        assert_eq!(recv(&server).await, None);
    });
}

#[test]
fn a_server_of_messages_whose_client_reads_them_in_parts() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = server(&name, PipeMode::Messages)
            .create_duplex::<pipe_mode::Messages>()
            .unwrap();
        let server = thread::spawn(move || {
            let server = listener.accept().unwrap();
            for message in [&content(0, 5_000)[..], b"", b"three", &content(1, 70_000)] {
                server.send(message).unwrap();
            }
            server
        });
        let client = LocalStream::connect(&*name).await.unwrap();
        let mut buf = [0; 3_000];
        let part = client.recv(&mut buf, soon()).await.unwrap().unwrap();
        assert_eq!((part.len, part.last), (3_000, false));
        assert!(buf == content(0, 5_000)[..3_000]);
        assert!(recv(&client).await.unwrap() == content(0, 5_000)[3_000..]);
        assert_eq!(recv(&client).await.as_deref(), Some(&b""[..]));
        begin_and_drop_some(&client).await;
        assert_eq!(recv(&client).await.as_deref(), Some(&b"three"[..]));
        assert!(recv(&client).await == Some(content(1, 70_000)));
        begin_and_drop(client.recv(&mut buf, Deadline::NEVER)).await;
        let server = server.join().unwrap();
        server.assume_flushed();
        drop(server);
        assert_eq!(recv(&client).await, None);
    });
}

/// A part of nothing leaves the message where it is.
async fn begin_and_drop_some(client: &LocalStream) {
    let part = client.recv(&mut [], soon()).await.unwrap().unwrap();
    assert_eq!((part.len, part.last), (0, false));
}

#[test]
fn pipes_of_one_direction() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = server(&name, PipeMode::Messages)
            .create_send_only::<pipe_mode::Messages>()
            .unwrap();
        let client = LocalStream::connect(&*name).await.unwrap();
        let server_end = listener.accept().unwrap();
        server_end.send(b"one").unwrap();
        server_end.send(b"two").unwrap();
        assert_eq!(recv(&client).await.as_deref(), Some(&b"one"[..]));
        assert_eq!(recv(&client).await.as_deref(), Some(&b"two"[..]));
        server_end.assume_flushed();
        drop(server_end);
        assert_eq!(recv(&client).await, None);

        let name = PortableName::new();
        let listener = server(&name, PipeMode::Messages)
            .create_recv_only::<pipe_mode::Bytes>()
            .unwrap();
        let client = LocalStream::connect(&*name).await.unwrap();
        let mut server_end = listener.accept().unwrap();
        send(&client, b"one").await;
        send(&client, b"two").await;
        let mut received = [0; 6];
        server_end.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"onetwo");
    });
}

#[test]
fn pipes_of_one_direction_say_what_they_cannot() {
    let _limit = limit(here!());
    if skipped_under_wine("C5", "it opens a one-way pipe for both ways") {
        return;
    }
    on_each(async || {
        let name = PortableName::new();
        let _listener = server(&name, PipeMode::Messages)
            .create_send_only::<pipe_mode::Messages>()
            .unwrap();
        let client = LocalStream::connect(&*name).await.unwrap();
        let error = client.send(b"?", soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("send"), "{error}");
        let transacted = client.transact(b"?", &mut [0; 8], soon()).await;
        assert_eq!(kind(transacted), ErrorKind::Unsupported);

        let name = PortableName::new();
        let _listener = server(&name, PipeMode::Messages)
            .create_recv_only::<pipe_mode::Bytes>()
            .unwrap();
        let client = LocalStream::connect(&*name).await.unwrap();
        let error = client.recv(&mut [0; 8], soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("receive"), "{error}");
        let transacted = client.transact(b"?", &mut [0; 8], soon()).await;
        assert_eq!(kind(transacted), ErrorKind::Unsupported);
    });
}

#[test]
fn a_server_of_bytes_is_read_when_asked_for() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = server(&name, PipeMode::Bytes)
            .create_duplex::<pipe_mode::Bytes>()
            .unwrap();
        let error = LocalStream::connect(&*name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("byte"), "{error}");
        drop(listener);

        let name = PortableName::new();
        let listener = server(&name, PipeMode::Bytes)
            .create_duplex::<pipe_mode::Bytes>()
            .unwrap();
        let bytes = ConnectOptions::new().read_mode(ReadMode::Byte);
        let client = bytes.connect_tokio(&*name, soon()).await.unwrap();
        let server_end = listener.accept().unwrap();
        let writer = thread::spawn(move || {
            let mut server_end = server_end;
            server_end.write_all(&content(0, 50_000)).unwrap();
            server_end
        });
        let mut received = Vec::new();
        while received.len() < 50_000 {
            let mut buf = [0; 7_000];
            let part = client.recv(&mut buf, soon()).await.unwrap().unwrap();
            assert!(part.last && part.len > 0);
            received.extend_from_slice(&buf[..part.len]);
        }
        assert!(received == content(0, 50_000));
        let mut server_end = writer.join().unwrap();
        send(&client, b"three").await;
        send(&client, b"four").await;
        let mut reply = [0; 9];
        server_end.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"threefour");
        server_end.assume_flushed();
    });
}
