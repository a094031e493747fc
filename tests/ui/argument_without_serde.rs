use pipetalk::Blob;

pub struct Secret;

pipetalk::service! {
    pub trait Kv {
        fn put(key: String, value: Secret) -> Option<Blob>;
    }
    pub struct KvClient;
}

fn main() {}
