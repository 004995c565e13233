// Answers of an ONNX export by transformers.js in Node: without Python.
//
// npm install --ignore-scripts @huggingface/transformers@4
// node examples/transformers_js.mjs small-onnx "a charming film" "a mess"
//
// One answer a line, as JSON: every label with its probability, the most probable first.

import { resolve } from 'node:path';
import { pipeline } from '@huggingface/transformers';

const [folder, ...texts] = process.argv.slice(2);
// 8-bit exports are called fp32, too: that is the name of the file without a suffix.
const options = { subfolder: '', dtype: 'fp32', local_files_only: true };
const classify = await pipeline('text-classification', resolve(folder), options);
for (const text of texts) console.log(JSON.stringify(await classify(text, { top_k: null })));
