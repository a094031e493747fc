//! The clients and servers of blocking and of async programs with the same face, so that one test is for all of them.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part of this"
)]

/// Clients on threads.
pub mod threads_call {
    use pipetalk::{CallError, ClientOptions, Stream, memory};

    pub use pipetalk::{Channel, Client, Items};

    pub fn connect<Q, R>(options: ClientOptions, name: &str) -> Result<Client<Q, R>, CallError> {
        options.connect(name)
    }

    pub fn over<Q, R>(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Client<Q, R>, CallError> {
        options.over(stream)
    }

    pub fn channel_over(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Channel, CallError> {
        options.channel_over(stream)
    }
}

/// Servers on threads.
pub mod threads_serve {
    use std::io;

    use pipetalk::{ServerOptions, memory};

    pub use pipetalk::Server;

    pub type LocalServer = Server;
    pub type MemoryServer = Server<memory::Listener>;

    pub fn bind(options: ServerOptions, name: &str) -> io::Result<LocalServer> {
        options.bind(name)
    }

    pub fn on(options: ServerOptions, listener: memory::Listener) -> MemoryServer {
        options.on(listener)
    }
}

/// Clients on tokio.
#[cfg(feature = "tokio")]
pub mod tasks_call {
    use std::future::Future;
    use std::pin::Pin;
    use std::time::Duration;

    use pipetalk::{CallError, CallOptions, ClientOptions, Deadline, ServerInfo, Version, memory};
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use tokio::runtime::Runtime;

    use crate::on_tokio::{ManyThreads, Runs};

    pub fn runtime() -> &'static Runtime {
        ManyThreads::runtime()
    }

    pub fn wait<F: Future>(future: F) -> F::Output {
        runtime().block_on(future)
    }

    pub struct Client<Q, R> {
        client: pipetalk::tokio::Client<Q, R>,
        channel: Channel,
    }

    impl<Q, R> Clone for Client<Q, R> {
        fn clone(&self) -> Self {
            Client {
                client: self.client.clone(),
                channel: self.channel.clone(),
            }
        }
    }

    #[derive(Debug, Clone)]
    pub struct Channel(pipetalk::tokio::Channel);

    impl<Q: Serialize, R: DeserializeOwned> Client<Q, R> {
        pub fn new(client: pipetalk::tokio::Client<Q, R>) -> Self {
            let channel = Channel(client.channel().clone());
            Client { client, channel }
        }

        pub fn connect(name: &str) -> Result<Self, CallError> {
            connect(ClientOptions::new(), name)
        }

        pub fn channel(&self) -> &Channel {
            &self.channel
        }

        pub fn call(&self, request: &Q) -> Result<R, CallError> {
            wait(self.client.call(request))
        }

        pub fn call_with(&self, request: &Q, options: CallOptions) -> Result<R, CallError> {
            wait(self.client.call_with(request, options))
        }

        pub fn notify(&self, request: &Q) -> Result<(), CallError> {
            wait(self.client.notify(request))
        }
    }

    /// The items of a stream, waited for by a thread.
    #[derive(Debug)]
    pub struct Items<T>(pipetalk::tokio::Items<T>, usize);

    impl<T: DeserializeOwned> Items<T> {
        pub fn new(items: pipetalk::tokio::Items<T>) -> Self {
            Items(items, 0)
        }

        pub fn next_by(&mut self, deadline: impl Into<Deadline>) -> Option<Result<T, CallError>> {
            wait(self.0.next_by(deadline))
        }

        pub fn try_next(&mut self) -> Result<Option<T>, CallError> {
            self.0.try_next()
        }

        pub fn is_over(&self) -> bool {
            self.0.is_over()
        }

        pub fn cancel(&mut self) {
            self.0.cancel();
        }
    }

    /// By turns as a `futures::Stream` and by its own method: they are the same.
    impl<T: DeserializeOwned> Iterator for Items<T> {
        type Item = Result<T, CallError>;

        fn next(&mut self) -> Option<Self::Item> {
            use futures_core::Stream;
            self.1 += 1;
            if self.1 % 2 == 0 {
                return wait(self.0.next());
            }
            wait(std::future::poll_fn(|cx| {
                Pin::new(&mut self.0).poll_next(cx)
            }))
        }
    }

    impl Channel {
        pub fn new(channel: pipetalk::tokio::Channel) -> Self {
            Channel(channel)
        }

        pub fn open<Q: Serialize + ?Sized, T: DeserializeOwned>(
            &self,
            method: u32,
            request: &Q,
            options: CallOptions,
        ) -> Result<Items<T>, CallError> {
            wait(self.0.open(method, request, options)).map(Items::new)
        }

        pub fn call<Q: Serialize + ?Sized, R: DeserializeOwned>(
            &self,
            method: u32,
            request: &Q,
            options: CallOptions,
        ) -> Result<R, CallError> {
            wait(self.0.call(method, request, options))
        }

        pub fn notify<Q: Serialize + ?Sized>(
            &self,
            method: u32,
            request: &Q,
            options: CallOptions,
        ) -> Result<(), CallError> {
            wait(self.0.notify(method, request, options))
        }

        pub fn info(&self) -> Result<ServerInfo, CallError> {
            wait(self.0.info())
        }

        pub fn drain(&self, timeout: Duration) -> Result<(), CallError> {
            wait(self.0.drain(timeout))
        }

        pub fn stop(&self) -> Result<(), CallError> {
            wait(self.0.stop())
        }

        pub fn server(&self) -> Option<Version> {
            self.0.server()
        }

        pub fn close(&self) {
            self.0.close();
        }
    }

    pub fn connect<Q: Serialize, R: DeserializeOwned>(
        options: ClientOptions,
        name: &str,
    ) -> Result<Client<Q, R>, CallError> {
        wait(options.connect_tokio(name)).map(Client::new)
    }

    pub fn over<Q: Serialize, R: DeserializeOwned>(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Client<Q, R>, CallError> {
        let _within = runtime().enter();
        let stream = pipetalk::tokio::memory::Stream::from(stream);
        options.over_tokio(stream).map(Client::new)
    }

    pub fn channel_over(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Channel, CallError> {
        let _within = runtime().enter();
        let stream = pipetalk::tokio::memory::Stream::from(stream);
        options.channel_over_tokio(stream).map(Channel)
    }
}

/// Servers on tokio.
#[cfg(feature = "tokio")]
pub mod tasks_serve {
    use std::io;

    use pipetalk::server::Handler;
    use pipetalk::tokio::{Listener, LocalListener};
    use pipetalk::{DefaultCodec, ServerHandle, ServerOptions, memory};
    use tokio::runtime::Runtime;

    use crate::on_tokio::{ManyThreads, Runs};

    fn runtime() -> &'static Runtime {
        ManyThreads::runtime()
    }

    pub struct Server<L>(pipetalk::tokio::Server<L>);

    pub type LocalServer = Server<LocalListener>;
    pub type MemoryServer = Server<pipetalk::tokio::memory::Listener>;

    impl<L: Listener> Server<L> {
        pub fn new(server: pipetalk::tokio::Server<L>) -> Self {
            Server(server)
        }

        pub fn handle(&self) -> ServerHandle {
            self.0.handle()
        }

        pub fn serve<M: 'static>(self, handler: impl Handler<DefaultCodec, M>) -> io::Result<()> {
            runtime().block_on(self.0.serve_blocking(handler))
        }

        /// The same in a runtime that has so many threads for what blocks.
        #[allow(dead_code, reason = "not every test bounds them")]
        pub fn serve_on<M: 'static>(
            self,
            threads: usize,
            handler: impl Handler<DefaultCodec, M>,
        ) -> io::Result<()> {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).max_blocking_threads(threads);
            let runtime = builder.enable_all().build().unwrap();
            runtime.block_on(self.0.serve_blocking(handler))
        }

        pub fn serve_async<M: 'static>(
            self,
            handler: impl pipetalk::tokio::Handler<DefaultCodec, M>,
        ) -> io::Result<()> {
            runtime().block_on(self.0.serve(handler))
        }
    }

    pub fn bind(options: ServerOptions, name: &str) -> io::Result<LocalServer> {
        let _within = runtime().enter();
        options.bind_tokio(name).map(Server)
    }

    pub fn on(options: ServerOptions, listener: memory::Listener) -> MemoryServer {
        Server(options.on_tokio(pipetalk::tokio::memory::Listener::from(listener)))
    }
}

/// Transports that have what is required, and nothing better.
pub mod bare {
    use std::io;

    use pipetalk::{Deadline, Listener, Part, Stream};

    #[derive(Debug)]
    pub struct Bare<T>(pub T);

    impl<S: Stream> Stream for Bare<S> {
        fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
            self.0.send(message, deadline)
        }

        fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
            self.0.recv(buf, deadline)
        }

        fn close(&self) {
            self.0.close();
        }
    }

    impl<L: Listener> Listener for Bare<L> {
        type Stream = Bare<L::Stream>;

        fn accept(&self, deadline: Deadline) -> io::Result<Bare<L::Stream>> {
            self.0.accept(deadline).map(Bare)
        }

        fn stop(&self) {
            self.0.stop();
        }
    }

    #[cfg(feature = "tokio")]
    mod tasks {
        use std::io;

        use pipetalk::tokio::{Listener, Stream};
        use pipetalk::{Deadline, Part};

        use super::Bare;

        impl<S: Stream> Stream for Bare<S> {
            async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
                self.0.send(message, deadline).await
            }

            async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
                self.0.recv(buf, deadline).await
            }

            fn close(&self) {
                self.0.close();
            }
        }

        impl<L: Listener> Listener for Bare<L> {
            type Stream = Bare<L::Stream>;

            async fn accept(&self, deadline: Deadline) -> io::Result<Bare<L::Stream>> {
                self.0.accept(deadline).await.map(Bare)
            }

            fn stop(&self) {
                self.0.stop();
            }
        }
    }
}

/// Clients on threads over such a transport.
pub mod bare_threads_call {
    use pipetalk::{CallError, ClientOptions, LocalStream, memory};

    use super::bare::Bare;

    pub use pipetalk::{Channel, Client, Items};

    pub fn connect<Q, R>(options: ClientOptions, name: &str) -> Result<Client<Q, R>, CallError> {
        options.over(Bare(LocalStream::connect(name).unwrap()))
    }

    pub fn over<Q, R>(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Client<Q, R>, CallError> {
        options.over(Bare(stream))
    }

    pub fn channel_over(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Channel, CallError> {
        options.channel_over(Bare(stream))
    }
}

/// Servers on threads over such a transport.
pub mod bare_threads_serve {
    use std::io;

    use pipetalk::{LocalListener, Peer, Server, ServerOptions, memory};

    use super::bare::Bare;

    pub type LocalServer = Server<Bare<LocalListener>>;
    pub type MemoryServer = Server<Bare<memory::Listener>>;

    pub fn bind(options: ServerOptions, name: &str) -> io::Result<LocalServer> {
        // It cannot tell who asks.
        let options = options.control(|_: &Peer| true);
        Ok(options.on(Bare(LocalListener::bind(name)?)))
    }

    pub fn on(options: ServerOptions, listener: memory::Listener) -> MemoryServer {
        options.on(Bare(listener))
    }
}

/// Clients on tokio over such a transport.
#[cfg(feature = "tokio")]
pub mod bare_tasks_call {
    use pipetalk::{CallError, ClientOptions, ConnectOptions, memory};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::bare::Bare;
    use super::tasks_call::{runtime, wait};
    use crate::soon;

    pub use super::tasks_call::{Channel, Client, Items};

    pub fn connect<Q: Serialize, R: DeserializeOwned>(
        options: ClientOptions,
        name: &str,
    ) -> Result<Client<Q, R>, CallError> {
        let stream = wait(ConnectOptions::new().connect_tokio(name, soon())).unwrap();
        let _within = runtime().enter();
        options.over_tokio(Bare(stream)).map(Client::new)
    }

    pub fn over<Q: Serialize, R: DeserializeOwned>(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Client<Q, R>, CallError> {
        let _within = runtime().enter();
        let stream = Bare(pipetalk::tokio::memory::Stream::from(stream));
        options.over_tokio(stream).map(Client::new)
    }

    pub fn channel_over(
        options: ClientOptions,
        stream: memory::Stream,
    ) -> Result<Channel, CallError> {
        let _within = runtime().enter();
        let stream = Bare(pipetalk::tokio::memory::Stream::from(stream));
        options.channel_over_tokio(stream).map(Channel::new)
    }
}

/// Servers on tokio over such a transport.
#[cfg(feature = "tokio")]
pub mod bare_tasks_serve {
    use std::io;

    use pipetalk::tokio::LocalListener;
    use pipetalk::{ListenOptions, Peer, ServerOptions, memory};

    use super::bare::Bare;
    use super::tasks_call::runtime;
    use super::tasks_serve::Server;

    pub type LocalServer = Server<Bare<LocalListener>>;
    pub type MemoryServer = Server<Bare<pipetalk::tokio::memory::Listener>>;

    pub fn bind(options: ServerOptions, name: &str) -> io::Result<LocalServer> {
        let _within = runtime().enter();
        let listener = ListenOptions::new().bind_tokio(name)?;
        // It cannot tell who asks.
        let options = options.control(|_: &Peer| true);
        Ok(Server::new(options.on_tokio(Bare(listener))))
    }

    pub fn on(options: ServerOptions, listener: memory::Listener) -> MemoryServer {
        let listener = pipetalk::tokio::memory::Listener::from(listener);
        Server::new(options.on_tokio(Bare(listener)))
    }
}
