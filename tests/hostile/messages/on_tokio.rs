//! Those who are to come to no harm, when they are async.

use std::io;
use std::marker::PhantomData;

use pipetalk::tokio::{LocalListener, LocalStream};
use pipetalk::{ConnectOptions, Deadline, ListenOptions};

use crate::messages::town::Kind;
use util::on_tokio::{OnTokio, Runs, wait};

#[derive(Debug)]
pub(crate) struct OnRuntime<R>(PhantomData<R>);

impl<R: Runs> Kind for OnRuntime<R> {
    type Stream = OnTokio<LocalStream, R>;
    type Listener = OnTokio<LocalListener, R>;

    const WORD: &str = "async";

    fn bind(options: &ListenOptions, name: &str) -> io::Result<Self::Listener> {
        let _within = R::runtime().enter();
        options.bind_tokio(name).map(OnTokio::new)
    }

    fn connect(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<Self::Stream> {
        wait::<R, _>(deadline, options.connect_tokio(name, deadline)).map(OnTokio::new)
    }
}
