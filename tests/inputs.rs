//! Inputs of every form: the same documents give the same shards, and faulty ones are named.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use neuroshard::crypto::Hash;
use neuroshard::crypto::SigningKey;
use neuroshard::data::Corpus;
use neuroshard::data::DataError;
use neuroshard::data::Manifest;
use neuroshard::data::Options;
use neuroshard::data::prepare;
use parquet::basic::Compression;
use parquet::data_type::ByteArray;
use parquet::data_type::ByteArrayType;
use parquet::data_type::Int64Type;
use parquet::file::properties::WriterProperties;
use parquet::file::properties::WriterVersion;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use ruzstd::encoding::CompressionLevel;
use ruzstd::encoding::compress_to_vec;
use tempfile::TempDir;

/// Documents of many lengths; some are empty, some are there twice, one is longer than a piece.
fn documents() -> Vec<String> {
    let words =
        ["the", "whale", "sails", "round", "cape", "horn", "\u{e9}\u{65e5}", "\n\n", "never"];
    let document = |i: u64| {
        let length = if i == 50 { 30_000 } else { i * 7919 % 60 };
        let words = (0..length).map(|k| words[((i * 31 + k * k + k) % 9) as usize]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..600).map(|i| document(if i % 10 == 9 { i - 5 } else { i })).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn lines(documents: &[String]) -> Vec<u8> {
    let line = |(i, text): (usize, &String)| {
        format!("{}\n", serde_json::json!({"id": i, "meta": {"text": 1}, "text": text}))
    };
    documents.iter().enumerate().map(line).collect::<String>().into_bytes()
}

/// A table with the documents in a column that may be null, in groups of 100 rows.
fn table(path: &Path, documents: &[String], compression: Compression, version: WriterVersion) {
    let schema = "message m { required int64 id; optional binary text (UTF8); }";
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_data_page_size_limit(4096);
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    for group in documents.chunks(100) {
        let mut rows = writer.next_row_group().unwrap();
        let mut ids = rows.next_column().unwrap().unwrap();
        let numbers: Vec<_> = (0..group.len() as i64).collect();
        ids.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
        ids.close().unwrap();
        let mut texts = rows.next_column().unwrap().unwrap();
        // Every second empty text is null.
        let null = |i: usize| group[i].is_empty() && i.is_multiple_of(2);
        let levels: Vec<_> = (0..group.len()).map(|i| i16::from(!null(i))).collect();
        let values: Vec<_> = (0..group.len())
            .filter(|&i| !null(i))
            .map(|i| ByteArray::from(&group[i][..]))
            .collect();
        texts.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        texts.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

fn options(tokenizer: Option<PathBuf>) -> Options {
    Options {
        vocab_size: 400,
        tokenizer,
        block_tokens: Some(65),
        shard_tokens: 5000,
        ..Options::default()
    }
}

/// A folder with the documents as lines of JSON, prepared.
struct Base {
    dir: TempDir,
    manifest: Manifest,
}

impl Base {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a.jsonl"), lines(&documents())).unwrap();
        let manifest = prepare(
            &[dir.path().join("a.jsonl")],
            &dir.path().join("base"),
            &options(None),
            &|_| {},
        )
        .unwrap();
        Self { dir, manifest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tokenizer(&self) -> Option<PathBuf> {
        Some(self.path("base/tokenizer.json"))
    }

    fn prepare(&self, inputs: &[&str], out: &str) -> Result<Manifest, DataError> {
        let inputs: Vec<_> = inputs.iter().map(|name| self.path(name)).collect();
        prepare(&inputs, &self.path(out), &options(self.tokenizer()), &|_| {})
    }

    /// Writes a file and prepares it: what the error says. Nothing may be left.
    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        let before = fs::read_dir(self.dir.path()).unwrap().count();
        let error = self.prepare(&[name], "refused").unwrap_err().to_string();
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), before, "{error}");
        assert!(error.contains(name), "{error}");
        error
    }
}

#[test]
fn every_form_gives_the_same_shards() {
    let base = Base::new();
    let documents = documents();
    let lines = lines(&documents);
    let half = lines.len() / 2;
    fs::write(base.path("b.jsonl.gz"), [gz(&lines[..half]), gz(&lines[half..])].concat()).unwrap();
    fs::write(base.path("c.jsonl.zst"), [zst(&lines[..half]), zst(&lines[half..])].concat())
        .unwrap();
    let forms = [
        ("d.parquet", Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        ("e.parquet", Compression::SNAPPY, WriterVersion::PARQUET_1_0),
        ("f.parquet", Compression::SNAPPY, WriterVersion::PARQUET_2_0),
        ("g.parquet", Compression::GZIP(Default::default()), WriterVersion::PARQUET_2_0),
    ];
    for (name, compression, version) in forms {
        table(&base.path(name), &documents, compression, version);
    }
    let names = forms.map(|(name, ..)| name);
    for name in ["b.jsonl.gz", "c.jsonl.zst"].iter().chain(&names) {
        let manifest = base.prepare(&[name], &format!("out-{name}")).unwrap();
        assert_eq!(manifest.shards, base.manifest.shards, "{name}");
        assert_eq!(manifest.filters, base.manifest.filters, "{name}");
        assert_eq!(manifest.dataset_hash(), base.manifest.dataset_hash());
    }
    let shards = &base.manifest.shards;
    assert!(shards.len() > 3, "the test wants several shards");
}

/// Written by pyarrow 26 (tests/golden/README.md): `text` has "row 0 " * 0, "row 1 " * 1 and so on.
#[test]
fn pages_of_zstd_are_read() {
    let base = Base::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let texts: Vec<_> = (0..400).map(|i| format!("row {i} ").repeat(i % 40)).collect();
    fs::write(base.path("x.jsonl"), lines(&texts)).unwrap();
    let want = base.prepare(&["x.jsonl"], "want").unwrap();
    for name in ["zstd-1.parquet", "zstd-2.parquet"] {
        fs::copy(golden.join(name), base.path(name)).unwrap();
        let manifest = base.prepare(&[name], &format!("out-{name}")).unwrap();
        assert_eq!(manifest.shards, want.shards, "{name}");
        assert_eq!(manifest.filters, want.filters, "{name}");
    }
}

#[test]
fn copies_and_empty_documents_are_left_out_and_counted() {
    let base = Base::new();
    let documents = documents();
    let mut distinct = Vec::new();
    let (mut empty, mut copies) = (0, 0);
    for document in &documents {
        match document {
            d if d.is_empty() => empty += 1,
            d if distinct.contains(d) => copies += 1,
            d => distinct.push(d.clone()),
        }
    }
    assert!(empty > 3 && copies > 30);
    let filters = base.manifest.filters.as_ref().unwrap();
    let counts: Vec<_> = filters.iter().map(|f| (&f.name[..], f.version, f.dropped)).collect();
    assert_eq!(counts, [("empty", 1, empty), ("exact-duplicate", 1, copies)]);
    assert_eq!(base.manifest.documents, distinct.len() as u64);
    // The tokens are those of the distinct documents, in order.
    let corpus = Corpus::open(&base.path("base")).unwrap();
    let mut tokens = Vec::new();
    for shard in corpus.shards() {
        let mut part = vec![0; shard.tokens() as usize];
        shard.read(0, &mut part, 400).unwrap();
        tokens.extend(part);
    }
    let end = corpus.tokenizer().end_of_text();
    let texts = tokens.split(|&t| t == end).map(|t| corpus.tokenizer().decode(t).unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), [&distinct[..], &[String::new()]].concat());
    // Across inputs too: the second file adds nothing.
    fs::copy(base.path("a.jsonl"), base.path("b.jsonl")).unwrap();
    let both = base.prepare(&["a.jsonl", "b.jsonl"], "both").unwrap();
    assert_eq!(both.shards, base.manifest.shards);
    assert_eq!(both.inputs[1].origin.as_ref().unwrap().documents, 0);
}

#[test]
fn threads_do_not_show() {
    let base = Base::new();
    table(
        &base.path("d.parquet"),
        &documents()[..50],
        Compression::SNAPPY,
        WriterVersion::PARQUET_1_0,
    );
    let inputs = ["a.jsonl", "d.parquet"].map(|name| base.path(name));
    let root = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = base.path(&format!("threads-{threads}"));
        pool.install(|| prepare(&inputs, &out, &options(None), &|_| {})).unwrap().root.unwrap()
    };
    let roots: Vec<Hash> = [1, 2, 3, 8].map(root).to_vec();
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
}

#[test]
fn faulty_inputs_are_named() {
    let base = Base::new();
    let good = lines(&documents());
    let check = |name: &str, bytes: &[u8], words: &[&str]| {
        let error = base.refused(name, bytes);
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
    };
    check("f1.jsonl", b"{\"txt\": \"a\"}\n", &["line 1", "\"text\"", "\"txt\"", "--field"]);
    check(
        "f2.jsonl",
        &[&good[..], b"{\"text\": \"caf\xe9\"}\n"].concat(),
        &["line 601", "UTF-8", "13"],
    );
    check("f3.jsonl", &good[..good.len() - 5], &["line 600"]);
    check("f4.jsonl", b"", &["empty"]);
    let packed = gz(&good);
    check("g1.jsonl.gz", &packed[..packed.len() - 9], &["gzip", "cut off"]);
    check("g2.txt.gz", b"not gzip at all", &["gzip"]);
    let packed = zst(&good);
    check("z1.jsonl.zst", &packed[..packed.len() - 20], &["zstd", "cut off"]);
    check("z2.txt.zst", b"no zstd", &["zstd"]);
    let path = base.path("good.parquet");
    table(&path, &documents(), Compression::SNAPPY, WriterVersion::PARQUET_1_0);
    let whole = fs::read(&path).unwrap();
    check("p1.parquet", &whole[..whole.len() / 2], &["cut off"]);
    check("p2.parquet", b"PAR1", &["cut off"]);
    let column = Options { column: "body".into(), ..options(base.tokenizer()) };
    let error = prepare(std::slice::from_ref(&path), &base.path("o"), &column, &|_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"body\"") && error.contains("\"id\", \"text\""), "{error}");
    let column = Options { column: "id".into(), ..options(base.tokenizer()) };
    let error = prepare(&[path], &base.path("o"), &column, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("\"id\" has no text"), "{error}");
}

/// Tables are read by a crate of many parts: whatever one bit makes of a file, the file is read or refused.
#[test]
fn tables_with_a_wrong_bit_are_read_or_refused() {
    let base = Base::new();
    let few: Vec<_> = documents().into_iter().skip(60).take(30).collect();
    for (k, (compression, version)) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        (Compression::SNAPPY, WriterVersion::PARQUET_2_0),
        (Compression::GZIP(Default::default()), WriterVersion::PARQUET_1_0),
        (Compression::SNAPPY, WriterVersion::PARQUET_1_0),
    ]
    .into_iter()
    .enumerate()
    {
        let path = base.path("t.parquet");
        table(&path, &few, compression, version);
        let whole = fs::read(&path).unwrap();
        let mut read = 0;
        // A stride that is prime to the file's bits comes to all of it.
        for i in 0..FLIPS {
            let bit = (i * 104_729 + k) % (8 * whole.len());
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            match base.prepare(&["t.parquet"], "out") {
                Ok(_) => {
                    read += 1;
                    fs::remove_dir_all(base.path("out")).unwrap();
                }
                // Rows can be lost too, until there are not enough.
                Err(error) => {
                    let error = error.to_string();
                    let is_told = ["t.parquet", "the text gives"].iter().any(|w| error.contains(w));
                    assert!(is_told, "{bit}: {error}");
                }
            }
        }
        assert!(0 < read && read < FLIPS, "{read}");
    }
}

/// Of each table. So few are quick; of 4,000 some five come to an assertion inside the crate.
const FLIPS: usize = 60;

#[test]
fn a_length_that_meets_an_assertion_inside_the_crate_is_an_error() {
    let base = Base::new();
    let texts = ["first ".repeat(20), "second ".repeat(20)];
    let path = base.path("t.parquet");
    table(&path, &texts, Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(120).position(|w| w == texts[0].as_bytes()).unwrap();
    // The first text takes in the second but for two bytes, too few for another length.
    let length = (texts[0].len() + 4 + texts[1].len() - 2) as u32;
    bytes[at - 4..at].copy_from_slice(&length.to_le_bytes());
    let error = base.refused("t2.parquet", &bytes);
    assert!(error.contains("lengths do not fit"), "{error}");
}

/// A token file of llm.c.
fn token_file(tokens: &[u16]) -> Vec<u8> {
    let mut header = [0i32; 256];
    header[..3].copy_from_slice(&[20_240_520, 1, tokens.len() as i32]);
    let header = header.iter().flat_map(|w| w.to_le_bytes());
    header.chain(tokens.iter().flat_map(|t| t.to_le_bytes())).collect()
}

#[test]
fn token_files_are_taken_as_they_are() {
    let base = Base::new();
    let corpus = Corpus::open(&base.path("base")).unwrap();
    let mut tokens = Vec::new();
    for shard in corpus.shards() {
        let mut part = vec![0; shard.tokens() as usize];
        shard.read(0, &mut part, 400).unwrap();
        tokens.extend(part.iter().map(|&t| t as u16));
    }
    // Their makers put the separator before a document.
    let end = corpus.tokenizer().end_of_text() as u16;
    let before = [&[end], &tokens[..tokens.len() - 1]].concat();
    fs::write(base.path("t.bin"), token_file(&before)).unwrap();
    let manifest = base.prepare(&["t.bin"], "out-bin").unwrap();
    assert_eq!(manifest.shards, base.manifest.shards);
    assert_eq!(manifest.documents, base.manifest.documents);

    let error =
        prepare(&[base.path("t.bin")], &base.path("o"), &options(None), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("--tokenizer"), "{error}");
    let bad = |bytes: &[u8], word: &str| {
        let error = base.refused("bad.bin", bytes);
        assert!(error.contains(word), "{error}");
    };
    let good = token_file(&before);
    bad(&good[..good.len() - 2], "its header tells of");
    bad(&good[..500], "truncated");
    bad(&token_file(&[5, 6, 60_000]), "token 60000 at 2");
    bad(&[&[1, 0, 0, 0], &good[4..]].concat(), "magic 1");
}

#[test]
fn statements_and_signatures_are_in_the_manifest() {
    let base = Base::new();
    fs::write(base.path("info.toml"), "[\"a.jsonl\"]\nsource = \"made up\"\n").unwrap();
    let key = SigningKey::create(&base.path("key")).unwrap();
    let mut options = options(base.tokenizer());
    options.licence = "CC0-1.0".into();
    options.inputs_info = Some(base.path("info.toml"));
    options.sign = Some(base.path("key"));
    let out = base.path("signed");
    let manifest = prepare(&[base.path("a.jsonl")], &out, &options, &|_| {}).unwrap();
    let origin = manifest.inputs[0].origin.as_ref().unwrap();
    assert_eq!((&origin.licence[..], &origin.source[..]), ("CC0-1.0", "made up"));
    assert_ne!(manifest.root, base.manifest.root);
    assert_eq!(manifest.dataset_hash(), base.manifest.dataset_hash());
    manifest.expect_maker(&out, &key.public()).unwrap();
    let other = SigningKey::generate().unwrap();
    let error = manifest.expect_maker(&out, &other.public()).unwrap_err().to_string();
    assert!(error.contains("not by"), "{error}");
    let error = base.manifest.expect_maker(&out, &key.public()).unwrap_err().to_string();
    assert!(error.contains("not signed"), "{error}");
    // Somebody else's signature of this root, or this one with another root.
    let file = out.join(Manifest::FILE);
    let mut forged = manifest.clone();
    forged.signed.as_mut().unwrap().signer = other.public();
    fs::write(&file, serde_json::to_vec(&forged).unwrap()).unwrap();
    let error = Manifest::load(&out).unwrap_err().to_string();
    assert!(error.contains("did not sign"), "{error}");
    let mut forged = manifest;
    forged.inputs[0].origin.as_mut().unwrap().licence = "MIT".into();
    forged.root = forged.compute_root();
    fs::write(&file, serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(Manifest::load(&out).unwrap_err().to_string().contains("did not sign"));
}
