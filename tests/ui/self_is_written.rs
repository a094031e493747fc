use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(&self, key: String) -> Option<Blob>;
    }
    pub struct KvClient;
}

fn main() {}
