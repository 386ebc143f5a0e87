// Embed a recording with the ONNX file of a model and list the most similar sounds of a library, by cosine similarity.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const SHOWN = 10;
const RECORDED_MS = 5000;
const status = document.getElementById("status");
const list = document.getElementById("neighbours");

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need the headers that isolate a page

/** Return the samples of an encoded sound at a sample rate, the mean of its channels. The browser decodes and resamples. */
async function decode(bytes, sampleRate) {
  const sound = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(bytes);
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let at = 0; at < mono.length; at++) mono[at] += samples[at] / sound.numberOfChannels;
  }
  return mono;
}

/** Return the scene embedding of mono samples. */
async function embed(session, samples) {
  const waveform = new ort.Tensor("float32", samples, [1, samples.length]);
  const outputs = await session.run({ waveform }, ["scene_embeddings"]);
  return outputs.scene_embeddings.data;
}

/** Return the cosine similarity of two vectors; 0 when one is zero. */
function cosine(first, second) {
  let product = 0, length = 0, other = 0;
  for (let at = 0; at < first.length; at++) {
    product += first[at] * second[at];
    length += first[at] * first[at];
    other += second[at] * second[at];
  }
  return product / Math.sqrt(length * other) || 0;
}

/** Return names and similarities of a library, the most similar first. */
function nearest(library, embedding) {
  const found = library.files.map((name, row) => ({ name, similarity: cosine(embedding, library.scene_embeddings[row]) }));
  return found.sort((one, other) => other.similarity - one.similarity).slice(0, SHOWN);
}

/** Embed an encoded sound and show its neighbours. */
async function search(session, library, blob) {
  status.textContent = "Embedding.";
  list.replaceChildren();
  const samples = await decode(await blob.arrayBuffer(), library.sample_rate);
  if (!samples.length) throw new Error("it has no samples");
  const start = performance.now();
  const embedding = await embed(session, samples);
  const took = performance.now() - start;
  for (const { name, similarity } of nearest(library, embedding)) {
    const item = document.createElement("li");
    item.textContent = `${similarity.toFixed(4)} ${name}`;
    list.append(item);
  }
  const seconds = samples.length / library.sample_rate;
  status.textContent = `Embedded ${seconds.toFixed(2)} s of audio in ${took.toFixed(0)} ms.`;
  globalThis.lastEmbedding = Array.from(embedding);
}

/** Return five seconds of the microphone, encoded. */
async function record() {
  status.textContent = "Recording.";
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  setTimeout(() => recorder.stop(), RECORDED_MS);
  await stopped;
  stream.getTracks().forEach((track) => track.stop());
  return new Blob(parts);
}

/** Run a task and show why it fails. */
async function shown(task) {
  try {
    await task();
  } catch (error) {
    status.textContent = `This does not work: ${error.message}`;
  }
}

await shown(async () => {
  const response = await fetch("library.json");
  if (!response.ok) throw new Error("there is no library.json in this folder; write it with library.py");
  const library = await response.json();
  const start = performance.now();
  const session = await ort.InferenceSession.create("model.onnx");
  const file = document.getElementById("file");
  file.addEventListener("change", () => { if (file.files.length) shown(() => search(session, library, file.files[0])); });
  document.getElementById("record").addEventListener("click", () => shown(async () => search(session, library, await record())));
  status.textContent = `Ready: ${library.files.length} sounds; the model was loaded in ${(performance.now() - start).toFixed(0)} ms.`;
});
