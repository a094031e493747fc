use pipetalk::{Blob, Call};

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> Option<Blob>;
        fn len() -> u64;
    }
    pub struct KvClient;
}

struct Store;

impl Kv for Store {
    fn get(&self, _: &Call, _: String) -> Option<Blob> {
        None
    }
}

fn main() {}
