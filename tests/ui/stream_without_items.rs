pipetalk::service! {
    pub trait Kv {
        stream watch(prefix: String);
    }
    pub struct KvClient;
}

fn main() {}
