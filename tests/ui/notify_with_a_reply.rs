use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        notify touch(key: String) -> Option<Blob>;
    }
    pub struct KvClient;
}

fn main() {}
