//! The clients of the service, on threads and on tokio, with the same face.

/// What `service!` makes.
pub(crate) mod threads_call {
    pub(crate) use crate::streams::service::NumbersClient;
    pub(crate) use util::drivers::threads_call::{Items, over};

    /// Whether a client receives what comes when nobody waits for it.
    pub(crate) const READS_AHEAD: bool = false;
}

/// What `service!` makes for async programs, waited for by threads.
#[cfg(feature = "tokio")]
pub(crate) mod tasks_call {
    use pipetalk::{Blob, CallError, CallOptions, ClientOptions, Deadline, memory};

    use crate::streams::service::AsyncNumbersClient;
    use util::drivers::tasks_call::{Channel, runtime, wait};
    pub(crate) use util::drivers::tasks_call::{Items, over};

    /// Whether a client receives what comes when nobody waits for it.
    pub(crate) const READS_AHEAD: bool = true;

    pub(crate) struct NumbersClient {
        client: AsyncNumbersClient,
        channel: Channel,
    }

    macro_rules! streams {
        ($($name:ident($($argument:ident: $type:ty),*) -> $item:ty;)*) => {
            $(
                pub(crate) fn $name(&self $(, $argument: $type)*) -> Result<Items<$item>, CallError> {
                    wait(self.client.$name($($argument),*)).map(Items::new)
                }
            )*
        };
    }

    impl NumbersClient {
        fn new(client: AsyncNumbersClient) -> Self {
            let channel = Channel::new(client.channel().clone());
            NumbersClient { client, channel }
        }

        pub(crate) fn connect_with(name: &str, options: ClientOptions) -> Result<Self, CallError> {
            wait(AsyncNumbersClient::connect_with(name, options)).map(Self::new)
        }

        pub(crate) fn over_with(
            stream: memory::Stream,
            options: ClientOptions,
        ) -> Result<Self, CallError> {
            let _within = runtime().enter();
            let stream = pipetalk::tokio::memory::Stream::from(stream);
            AsyncNumbersClient::over_with(stream, options).map(Self::new)
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

        streams! {
            count(from: u64, to: u64) -> u64;
            without_waiting(size: u64, all: u64) -> Blob;
            sized(sizes: &[u64]) -> Blob;
            fails(items: u64, text: &str) -> u64;
            panics(items: u64) -> u64;
            silent() -> u64;
            kept(items: &[u8]) -> u64;
            kept_and_panics() -> u64;
        }
    }
}
