use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> ;
    }
    pub struct KvClient;
}

fn main() {}
