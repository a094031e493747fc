use pipetalk::{Blob, Call};

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> Option<Blob>;
    }
    pub struct KvClient;
}

struct Store;

impl Kv for Store {
    fn get(&self, _: &Call, _: String) -> Blob {
        Blob::new()
    }
}

fn main() {}
