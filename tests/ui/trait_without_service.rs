use pipetalk::{Call, Server};

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> String;
    }
    pub struct KvClient;
}

struct Store;

impl Kv for Store {
    fn get(&self, _: &Call, key: String) -> String {
        key
    }
}

fn main() {
    Server::bind("acme.kv").unwrap().serve(Store).unwrap();
}
