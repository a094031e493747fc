//! Calls with a codec that is named, as they are with it alone and with all others beside it.

use std::thread;

use pipetalk::codec::{Bincode, Postcard};
use pipetalk::server::Handler;
use pipetalk::{
    Broadcast, Call, CallError, Channel, Client, ClientOptions, Codec, DefaultCodec, Event,
    ItemSink, Items, Listener, Server, ServerHandle, ServerOptions, memory,
};

use util::{here, limit, soon};

pipetalk::service! {
    /// Comments
    #[name = "acme.numbers"]
    /// and attributes may stand
    #[codec = Postcard]
    /// around it.
    trait Numbers {
        #[idempotent]
        fn double(number: i32) -> i32;
        fn concat(texts: Vec<String>, with: String) -> String;
        notify forget(what: u8);
        stream up_to(number: u32) -> u32;
        stream watch() -> Event<u32>;
    }
    struct NumbersClient;
}

struct Counts(Broadcast<u32, Postcard>);

impl Numbers for Counts {
    fn double(&self, _: &Call, number: i32) -> i32 {
        2 * number
    }

    fn concat(&self, _: &Call, texts: Vec<String>, with: String) -> String {
        texts.join(&with)
    }

    fn forget(&self, _: &Call, _: u8) {}

    fn up_to(&self, _: &Call, number: u32, items: ItemSink<u32, Postcard>) {
        (0..number).for_each(|number| items.send(&number).unwrap());
    }

    fn watch(&self, _: &Call, items: ItemSink<Event<u32>, Postcard>) {
        self.0.subscribe(items);
    }
}

struct Serving {
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Serving {
    fn start<L: Listener, M: 'static>(
        server: Server<L>,
        handler: impl Handler<Postcard, M>,
    ) -> Serving {
        let handle = server.handle();
        let serve = move || server.serve_with::<Postcard, M>(handler);
        let thread = Some(thread::spawn(serve));
        Serving { handle, thread }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// Whatever features are on, it is the same.
#[test]
fn the_default_is_always_the_same() {
    let _: DefaultCodec = Bincode;
    let _: fn(Client<u8, u8>) -> Client<u8, u8, Bincode> = |client| client;
    let _: fn(ItemSink<u8>) -> ItemSink<u8, Bincode> = |items| items;
}

#[test]
fn a_service_has_the_codec_that_it_names() {
    let _limit = limit(here!());
    let news = Broadcast::new(10);
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().on(listener);
    let _serving = Serving::start(server, Counts(news.clone()).service());
    let client = NumbersClient::over(connector.connect(soon()).unwrap()).unwrap();
    assert_eq!(client.double(-300), Ok(-600));
    let text = client.concat(&["a".to_owned(), "b".to_owned()], "-");
    assert_eq!(text.as_deref(), Ok("a-b"));
    client.forget(1).unwrap();
    let items: Items<u32, Postcard> = client.up_to(5).unwrap();
    assert!(items.map(Result::unwrap).eq(0..5));
    let mut events = client.watch().unwrap();
    util::until("it is subscribed", || news.subscribers() == 1);
    news.publish(&7).unwrap();
    assert_eq!(events.next(), Some(Ok(Event::Item(7))));

    // It is what the codec makes of it.
    let channel: &Channel<Postcard> = client.channel();
    let doubled: i32 = channel.call(0, &(-300,), Default::default()).unwrap();
    assert_eq!(doubled, -600);
    assert_eq!(channel.server().unwrap().service, "acme.numbers");
}

#[test]
fn a_closure_has_the_codec_that_is_asked_for() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().on(listener);
    let _serving = Serving::start(server, |text: String, _: &Call| text.len());
    let connect = || connector.connect(soon()).unwrap();
    let channel = ClientOptions::new().channel_over(connect()).unwrap();
    let client: Client<String, usize, Postcard> = Client::from_channel(channel);
    assert_eq!(client.call(&"hello".to_owned()), Ok(5));

    // Another one is told so.
    let channel = ClientOptions::new().channel_over(connect()).unwrap();
    let client: Client<String, usize, Other> = Client::from_channel(channel);
    let error = client.call(&"hello".to_owned()).unwrap_err();
    let CallError::Incompatible(parties) = error else {
        panic!("{error:?}");
    };
    assert_eq!(parties.theirs.codec, Postcard::NAME);
    assert_eq!(parties.ours.codec, Other::NAME);
}

/// A codec of one's own, with the bytes of another.
#[derive(Debug, Clone, Copy, Default)]
struct Other;

impl Codec for Other {
    const NAME: &'static str = "other";

    fn encode<T: serde::Serialize + ?Sized>(
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), pipetalk::CodecError> {
        Postcard::encode(value, out)
    }

    fn decode<'de, T: serde::Deserialize<'de>>(
        bytes: &'de [u8],
    ) -> Result<T, pipetalk::CodecError> {
        Postcard::decode(bytes)
    }
}

#[cfg(feature = "tokio")]
mod tasks {
    use pipetalk::tokio;
    use util::on_tokio::{ManyThreads, Runs};

    use super::*;

    pipetalk::service! {
        #[codec = Other]
        trait Both {
            fn double(number: i32) -> i32;
            notify forget(what: u8);
            stream up_to(number: u32) -> u32;
        }
        struct BothClient;
        async trait AsyncBoth;
        async struct AsyncBothClient;
    }

    struct Tasks;

    impl AsyncBoth for Tasks {
        async fn double(&self, _: &Call, number: i32) -> i32 {
            2 * number
        }

        async fn forget(&self, _: &Call, _: u8) {}

        async fn up_to(&self, _: &Call, number: u32, items: tokio::ItemSink<u32, Other>) {
            for number in 0..number {
                items.send(&number).await.unwrap();
            }
        }
    }

    #[test]
    fn async_ends_have_the_codec_that_is_named() {
        let _limit = limit(here!());
        ManyThreads::runtime().block_on(async {
            let (listener, connector) = tokio::memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let handle = server.handle();
            let serving = ::tokio::spawn(server.serve_with::<Other, _>(Tasks.service()));
            let stream = connector.connect(soon()).await.unwrap();
            let client = AsyncBothClient::over(stream).unwrap();
            assert_eq!(client.double(-300).await, Ok(-600));
            client.forget(1).await.unwrap();
            let mut items: tokio::Items<u32, Other> = client.up_to(2).await.unwrap();
            assert_eq!(items.next().await, Some(Ok(0)));
            assert_eq!(items.next().await, Some(Ok(1)));
            assert_eq!(items.next().await, None);
            handle.stop();
            serving.await.unwrap().unwrap();
        });
    }
}
