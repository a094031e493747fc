//! The service whose streams are subscribed, and its ends: on threads and on tokio, with the same face.

use pipetalk::{Blob, Broadcast, Call, Event, ItemSink};

pipetalk::service! {
    pub(crate) trait News {
        stream all() -> Event<u64>;
        /// Those numbers alone that can be divided by that.
        stream multiples(of: u64) -> Event<u64>;
        stream blobs() -> Event<Blob>;
        fn add(a: u64, b: u64) -> u64;
    }
    pub(crate) struct NewsClient;
    #[cfg(feature = "tokio")]
    pub(crate) async trait AsyncNews;
    #[cfg(feature = "tokio")]
    pub(crate) async struct AsyncNewsClient;
}

pub(crate) struct Desk {
    pub(crate) numbers: Broadcast<u64>,
    pub(crate) blobs: Broadcast<Blob>,
}

impl News for Desk {
    fn all(&self, _: &Call, items: ItemSink<Event<u64>>) {
        self.numbers.subscribe(items);
    }

    fn multiples(&self, _: &Call, of: u64, items: ItemSink<Event<u64>>) {
        self.numbers
            .subscribe_to(items, move |number| number % of == 0);
    }

    fn blobs(&self, _: &Call, items: ItemSink<Event<Blob>>) {
        self.blobs.subscribe(items);
    }

    fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
        a + b
    }
}

/// Clients on threads.
pub(crate) mod threads_call {
    pub(crate) use super::NewsClient;
    pub(crate) use util::drivers::threads_call::{Items, channel_over};
}

/// Servers on threads.
pub(crate) mod threads_serve {
    use std::io;

    use super::{Desk, News};
    use util::drivers::threads_serve::MemoryServer;
    pub(crate) use util::drivers::threads_serve::on;

    pub(crate) fn serve(server: MemoryServer, desk: Desk) -> io::Result<()> {
        server.serve(News::service(desk))
    }
}

/// Clients on tokio.
#[cfg(feature = "tokio")]
pub(crate) mod tasks_call {
    use pipetalk::{Blob, CallError, CallOptions, ClientOptions, Deadline, Event, memory};

    use super::AsyncNewsClient;
    use util::drivers::tasks_call::{Channel, runtime, wait};
    pub(crate) use util::drivers::tasks_call::{Items, channel_over};

    pub(crate) struct NewsClient {
        client: AsyncNewsClient,
        channel: Channel,
    }

    impl NewsClient {
        fn new(client: AsyncNewsClient) -> Self {
            let channel = Channel::new(client.channel().clone());
            NewsClient { client, channel }
        }

        pub(crate) fn over_with(
            stream: memory::Stream,
            options: ClientOptions,
        ) -> Result<Self, CallError> {
            let _within = runtime().enter();
            let stream = pipetalk::tokio::memory::Stream::from(stream);
            AsyncNewsClient::over_with(stream, options).map(Self::new)
        }

        pub(crate) fn with(&self, options: CallOptions) -> Self {
            Self::new(self.client.with(options))
        }

        pub(crate) fn with_deadline(&self, deadline: impl Into<Deadline>) -> Self {
            Self::new(self.client.with_deadline(deadline))
        }

        pub(crate) fn channel(&self) -> &Channel {
            &self.channel
        }

        pub(crate) fn add(&self, a: u64, b: u64) -> Result<u64, CallError> {
            wait(self.client.add(a, b))
        }

        pub(crate) fn all(&self) -> Result<Items<Event<u64>>, CallError> {
            wait(self.client.all()).map(Items::new)
        }

        pub(crate) fn multiples(&self, of: u64) -> Result<Items<Event<u64>>, CallError> {
            wait(self.client.multiples(of)).map(Items::new)
        }

        pub(crate) fn blobs(&self) -> Result<Items<Event<Blob>>, CallError> {
            wait(self.client.blobs()).map(Items::new)
        }
    }
}

/// Servers on tokio.
#[cfg(feature = "tokio")]
pub(crate) mod tasks_serve {
    use std::io;

    use pipetalk::tokio::ItemSink;
    use pipetalk::{Blob, Call, Event};

    use super::{AsyncNews, Desk};
    use util::drivers::tasks_serve::MemoryServer;
    pub(crate) use util::drivers::tasks_serve::on;

    struct InTasks(Desk);

    impl AsyncNews for InTasks {
        async fn all(&self, _: &Call, items: ItemSink<Event<u64>>) {
            self.0.numbers.subscribe(items);
        }

        async fn multiples(&self, _: &Call, of: u64, items: ItemSink<Event<u64>>) {
            self.0
                .numbers
                .subscribe_to(items, move |number| number % of == 0);
        }

        async fn blobs(&self, _: &Call, items: ItemSink<Event<Blob>>) {
            self.0.blobs.subscribe(items);
        }

        async fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
            a + b
        }
    }

    pub(crate) fn serve(server: MemoryServer, desk: Desk) -> io::Result<()> {
        server.serve_async(InTasks(desk).service())
    }
}

/// Servers on tokio whose handlers block.
#[cfg(feature = "tokio")]
pub(crate) mod blocking_tasks_serve {
    use std::io;

    use super::{Desk, News};
    use util::drivers::tasks_serve::MemoryServer;
    pub(crate) use util::drivers::tasks_serve::on;

    pub(crate) fn serve(server: MemoryServer, desk: Desk) -> io::Result<()> {
        server.serve(News::service(desk))
    }
}
