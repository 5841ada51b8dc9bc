//! The default language: generated from a seed, with an entropy that is known.
//!
//! A Markov source over at most 256 symbols. Each has 4 to 12 successors, the k-th with probability
//! proportional to 1/k (Zipf), and successors are the more popular the smaller their number; where
//! the symbol before the last was odd, the first and the fourth change places. So an untrained
//! model starts at `ln vocab_size`, soon learns which symbols exist, then who follows whom, then
//! to look further back than one token, and ends at the source's entropy rate. Symbol 0 is a full
//! stop; all others are words of syllables.
//!
//! Each token is a pure function of (seed, sequence, position of the sequence's earlier tokens).

use super::DataError;
use super::permutation::Permutation;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::rng::Address;
use crate::rng::Purpose;

/// A synthetic language.
#[derive(Clone, Debug)]
pub struct Synthetic {
    vocab_size: usize,
    seed: u64,
    symbols: usize,
    /// By state, `class * symbols + last`.
    states: Vec<State>,
    /// Over the states, cumulative, of 2^32: where sequences start.
    start: Vec<u64>,
    entropy: f64,
    words: Permutation,
}

/// What may follow.
#[derive(Clone, Debug)]
struct State {
    /// Distinct symbols.
    successors: Vec<u32>,
    /// Their cumulative probabilities, of 2^32; the last is 2^32.
    cumulative: Vec<u64>,
}

impl Synthetic {
    /// Sequences that are trained on: `0..NUM_TRAIN`.
    pub const NUM_TRAIN: u64 = 1 << 40;
    /// Sequences held out: `NUM_TRAIN..NUM_TRAIN + NUM_HELDOUT`.
    pub const NUM_HELDOUT: u64 = 64;

    /// The language of a seed, for a model with a vocabulary of `vocab_size`.
    pub fn new(vocab_size: usize, seed: u64) -> Result<Self, DataError> {
        if !(MIN_VOCAB..=MAX_VOCAB).contains(&vocab_size) {
            return Err(DataError::OutOfRange {
                key: "vocab_size",
                value: vocab_size as u64,
                bounds: "16 to 16777216 for the synthetic language",
            });
        }
        let symbols = vocab_size.min(MAX_SYMBOLS);
        let states: Vec<_> =
            (0..CLASSES * symbols).map(|s| State::generate(seed, s, symbols)).collect();
        let distribution = stationary(&states, symbols);
        let entropy = distribution.iter().zip(&states).map(|(p, s)| p * s.entropy()).sum();
        let words = Permutation::new(TWO_SYLLABLES, seed, 0);
        let start = cumulative(&distribution);
        Ok(Self { vocab_size, seed, symbols, states, start, entropy, words })
    }

    /// The vocabulary's size as given.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Nats per token that no model can pass on average: the source's entropy rate,
    /// `sum_s pi(s) H(successors of s)` with `pi` the stationary distribution.
    pub fn entropy(&self) -> f64 {
        self.entropy
    }

    /// Identifies the language.
    pub fn hash(&self) -> Hash {
        let mut hasher = Hasher::new(Domain::Dataset);
        hasher.update(b"synthetic").update(&VERSION.to_le_bytes());
        hasher.update(&(self.vocab_size as u64).to_le_bytes()).update(&self.seed.to_le_bytes());
        hasher.finish()
    }

    /// Writes the first tokens of a sequence.
    pub fn sequence(&self, sequence: u64, out: &mut [u32]) {
        let base =
            Address { seed: self.seed, purpose: Purpose::SyntheticText, step: sequence, index: 0 };
        let mut words = [0; 4];
        let mut class = 0;
        for i in 0..out.len() {
            if i % 4 == 0 {
                words = base.at(i as u64 / 4).words();
            }
            let word = u64::from(words[i % 4]);
            let symbol = if i == 0 {
                let state = self.start.partition_point(|&c| c <= word);
                class = state / self.symbols;
                state % self.symbols
            } else {
                let last = out[i - 1] as usize;
                let symbol = self.states[class * self.symbols + last].pick(word);
                class = last % CLASSES;
                symbol as usize
            };
            out[i] = symbol as u32;
        }
    }

    /// The text of `tokens`.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut text = String::new();
        let mut sentence_ended = false;
        for &token in tokens {
            if token == FULL_STOP {
                text.push('.');
                sentence_ended = true;
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            let mut word = self.word(token);
            if std::mem::take(&mut sentence_ended) {
                word[..1].make_ascii_uppercase();
            }
            text.push_str(&word);
        }
        text
    }

    /// The tokens of a text that [`Self::decode`] could have written.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut tokens = Vec::new();
        for piece in text.split_whitespace() {
            let word = piece.trim_end_matches('.');
            if !word.is_empty() {
                let token = self.token(&word.to_ascii_lowercase());
                let known = token.filter(|&t| (t as usize) < self.vocab_size);
                let unknown = || DataError::UnknownWord { word: word.to_string() };
                tokens.push(known.ok_or_else(unknown)?);
            }
            tokens.extend(std::iter::repeat_n(FULL_STOP, piece.len() - word.len()));
        }
        Ok(tokens)
    }

    /// Two syllables for the first 10,000 tokens, in an order of the seed's; then as many as it
    /// takes, the number's digits to the base 100.
    fn word(&self, token: u32) -> String {
        let token = u64::from(token);
        let (mut number, mut digits) = match self.words.at(token) {
            Some(number) => (number, 2),
            None => (token - TWO_SYLLABLES, 3),
        };
        while digits > 2 && number >= SYLLABLES.pow(digits) {
            number -= SYLLABLES.pow(digits);
            digits += 1;
        }
        let mut word = String::new();
        for digit in (0..digits).rev() {
            let syllable = (number / SYLLABLES.pow(digit) % SYLLABLES) as usize;
            word.push(char::from(CONSONANTS[syllable / VOWELS.len()]));
            word.push(char::from(VOWELS[syllable % VOWELS.len()]));
        }
        word
    }

    /// The inverse of [`Self::word`].
    fn token(&self, word: &str) -> Option<u32> {
        let digits = (word.len() / 2) as u32;
        if !word.len().is_multiple_of(2) || !(2..=5).contains(&digits) {
            return None;
        }
        let mut number = 0;
        for pair in word.as_bytes().chunks_exact(2) {
            let consonant = CONSONANTS.iter().position(|&c| c == pair[0])?;
            let vowel = VOWELS.iter().position(|&v| v == pair[1])?;
            number = number * SYLLABLES + (consonant * VOWELS.len() + vowel) as u64;
        }
        let token = match digits {
            2 => self.words.position_of(number)?,
            _ => TWO_SYLLABLES + (3..digits).map(|d| SYLLABLES.pow(d)).sum::<u64>() + number,
        };
        let token = u32::try_from(token).ok()?;
        (token != FULL_STOP).then_some(token)
    }
}

impl State {
    /// The successors of a state. The numbers drawn are those at (seed, `SyntheticTables`, step =
    /// last symbol): index 0 for how many, index k for the k-th from the least likely.
    fn generate(seed: u64, state: usize, symbols: usize) -> Self {
        let (class, last) = (state / symbols, state % symbols);
        let purpose = Purpose::SyntheticTables;
        let base = Address { seed, purpose, step: last as u64, index: 0 };
        let count = MIN_SUCCESSORS + base.below(EXTRA_SUCCESSORS) as usize;
        // The least likely is the next symbol, so that all symbols are connected.
        let next = (last + 1) % symbols;
        let mut successors = vec![next as u32];
        for k in 1..count {
            // A square favours small symbols; the first free one from there on is taken.
            let u = base.at(k as u64).uniform_f64();
            let mut symbol = (u * u * symbols as f64) as usize;
            while symbol == last || successors.contains(&(symbol as u32)) {
                symbol = (symbol + 1) % symbols;
            }
            successors.push(symbol as u32);
        }
        successors.reverse();
        if class == 1 {
            successors.swap(0, 3);
        }
        let weights: Vec<_> = (1..=count).map(|k| 1.0 / k as f64).collect();
        Self { successors, cumulative: cumulative(&weights) }
    }

    /// The successor at `word` of 2^32.
    fn pick(&self, word: u64) -> u32 {
        self.successors[self.cumulative.partition_point(|&c| c <= word)]
    }

    /// The probabilities as they are drawn: multiples of 2^-32.
    fn probabilities(&self) -> impl Iterator<Item = f64> + '_ {
        let before = std::iter::once(0).chain(self.cumulative.iter().copied());
        self.cumulative.iter().zip(before).map(|(c, b)| (c - b) as f64 / ONE)
    }

    /// In nats. `libm` is software, hence equal on all machines.
    fn entropy(&self) -> f64 {
        self.probabilities().filter(|&p| p > 0.0).map(|p| -p * libm::log(p)).sum()
    }
}

/// Cumulative weights as multiples of 2^-32 of their sum, rounded; the last is 2^32.
fn cumulative(weights: &[f64]) -> Vec<u64> {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let mut out: Vec<_> = weights
        .iter()
        .map(|w| {
            sum += w;
            (sum / total * ONE).round() as u64
        })
        .collect();
    if let Some(last) = out.last_mut() {
        *last = ONE as u64;
    }
    out
}

/// The stationary distribution over the states, by power iteration of the lazy chain (half stays,
/// half moves), which has the same one and no period. Sums are in a fixed order.
fn stationary(states: &[State], symbols: usize) -> Vec<f64> {
    let mut now = vec![1.0 / states.len() as f64; states.len()];
    for _ in 0..MAX_ITERATIONS {
        let mut next: Vec<f64> = now.iter().map(|p| p / 2.0).collect();
        for (from, state) in states.iter().enumerate() {
            let class = from % symbols % CLASSES;
            for (&symbol, p) in state.successors.iter().zip(state.probabilities()) {
                next[class * symbols + symbol as usize] += now[from] * p / 2.0;
            }
        }
        let change = now.iter().zip(&next).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        now = next;
        if change < TOLERANCE {
            break;
        }
    }
    now
}

/// Of the language: raised when the same seed gives another text.
const VERSION: u32 = 1;
/// Even and odd: what counts of the symbol before the last.
const CLASSES: usize = 2;
const MAX_SYMBOLS: usize = 256;
const MIN_VOCAB: usize = 16;
const MAX_VOCAB: usize = 1 << 24;
const MIN_SUCCESSORS: usize = 4;
const EXTRA_SUCCESSORS: u64 = 9;
const FULL_STOP: u32 = 0;
const ONE: f64 = 4_294_967_296.0;
const MAX_ITERATIONS: usize = 10_000;
const TOLERANCE: f64 = 1e-17;
const CONSONANTS: &[u8; 20] = b"bcdfghjklmnprstvwxyz";
const VOWELS: &[u8; 5] = b"aeiou";
const SYLLABLES: u64 = 100;
const TWO_SYLLABLES: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_reproducible_and_start_alike_at_any_length() {
        let language = Synthetic::new(4096, 1).unwrap();
        let mut long = vec![0; 257];
        let mut short = vec![0; 33];
        language.sequence(7, &mut long);
        language.sequence(7, &mut short);
        assert_eq!(long[..33], short[..]);
        assert!(long.iter().all(|&t| t < 256));
        language.sequence(8, &mut short);
        assert_ne!(long[..33], short[..]);
    }

    /// The mean surprise under the true source comes to the entropy that is claimed.
    #[test]
    fn entropy_is_the_mean_surprise() {
        for (vocab_size, seed) in [(16, 3), (256, 1), (4096, 2)] {
            let language = Synthetic::new(vocab_size, seed).unwrap();
            let mut tokens = vec![0; 400_000];
            language.sequence(0, &mut tokens);
            let mut surprise = 0.0;
            for w in tokens.windows(3) {
                let [before, last, next] = [w[0], w[1], w[2]];
                let state = before as usize % CLASSES * language.symbols + last as usize;
                let state = &language.states[state];
                let k = state.successors.iter().position(|&s| s == next).unwrap();
                surprise -= state.probabilities().nth(k).unwrap().ln();
            }
            let mean = surprise / (tokens.len() - 2) as f64;
            // Surprises deviate by about one nat: five deviations of the mean.
            let tolerance = 5.0 / (tokens.len() as f64).sqrt();
            assert!((mean - language.entropy()).abs() < tolerance, "{mean} {vocab_size}");
        }
    }

    #[test]
    fn start_is_stationary_and_states_are_distinct() {
        let language = Synthetic::new(256, 5).unwrap();
        let distribution = stationary(&language.states, language.symbols);
        assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(distribution.iter().all(|&p| p > 0.0));
        for state in &language.states {
            let mut sorted = state.successors.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), state.successors.len());
            assert_eq!(state.cumulative.last(), Some(&(1 << 32)));
        }
        assert_eq!(language.start.last(), Some(&(1 << 32)));
    }

    #[test]
    fn text_reads_and_comes_back() {
        let language = Synthetic::new(4096, 1).unwrap();
        let mut tokens = vec![0; 200];
        language.sequence(1, &mut tokens);
        let text = language.decode(&tokens);
        assert!(text.contains(". "), "{text}");
        assert_eq!(language.encode(&text).unwrap(), tokens);
        assert!(matches!(language.encode("hello"), Err(DataError::UnknownWord { .. })));
        assert!(language.encode("wörter ü").is_err());
        assert!(language.encode("  ").unwrap().is_empty());
    }

    #[test]
    fn every_token_has_its_own_word() {
        let language = Synthetic::new(MAX_VOCAB, 1).unwrap();
        let borders = [1, 255, 9_999, 10_000, 1_009_999, 1_010_000, MAX_VOCAB as u32 - 1];
        for token in borders.into_iter().chain((0..5000).map(|i| 1 + i * 3313)) {
            let word = language.word(token);
            assert_eq!(language.token(&word), Some(token), "{word}");
        }
        assert!(Synthetic::new(15, 1).is_err());
        assert!(Synthetic::new(MAX_VOCAB + 1, 1).is_err());
    }

    /// Golden: the default language is part of what results mean.
    #[test]
    fn default_language_is_fixed() {
        let language = Synthetic::new(4096, 1).unwrap();
        let mut tokens = vec![0; 16];
        language.sequence(0, &mut tokens);
        assert_eq!(tokens, [15, 1, 67, 34, 7, 212, 213, 2, 15, 5, 97, 50, 51, 122, 22, 1]);
        assert_eq!(language.entropy().to_bits(), 0x3ffc962b352e0c25);
        assert_eq!(
            language.decode(&tokens),
            "kabe wajo pewa nuna revu vilo wixa same kabe geke nazo lugi yeso niyi ceci wajo"
        );
    }
}
