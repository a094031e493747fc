use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(key) -> Option<Blob>;
    }
    pub struct KvClient;
}

fn main() {}
