"""Writes a tiny Llama with random weights as Hugging Face keeps models: a folder with a config, a tokenizer of bytes and
safetensors. For tests of servers that others made (test_managed_servers.c), where no model can be downloaded."""
import json, struct, sys, os, random

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
hidden, inner, layers, heads, vocab = 64, 128, 2, 2, 259

def write(name, value):
    with open(os.path.join(out, name), "w", encoding="utf-8") as f:
        json.dump(value, f)

# The alphabet of byte-level tokenizers: a printable character for each byte.
plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
spare = (256 + i for i in range(256))
alphabet = [chr(b) if b in plain else chr(next(spare)) for b in range(256)]
special = ["<s>", "</s>", "<unk>"]
write("tokenizer.json", {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
    "added_tokens": [{"id": 256 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True} for i, s in enumerate(special)],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
              "vocab": {**{c: i for i, c in enumerate(alphabet)}, **{s: 256 + i for i, s in enumerate(special)}},
              "merges": []}})
write("tokenizer_config.json", {
    "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "model_max_length": 4096, "clean_up_tokenization_spaces": False,
    "chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "})
write("config.json", {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
    "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocab,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096, "hidden_act": "silu",
    "bos_token_id": 256, "eos_token_id": 257, "tie_word_embeddings": False, "torch_dtype": "float32"})
write("generation_config.json", {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257})

shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
for i in range(layers):
    at = f"model.layers.{i}."
    for part, shape in (("self_attn.q_proj", (hidden, hidden)), ("self_attn.k_proj", (hidden, hidden)),
                        ("self_attn.v_proj", (hidden, hidden)), ("self_attn.o_proj", (hidden, hidden)),
                        ("mlp.gate_proj", (inner, hidden)), ("mlp.up_proj", (inner, hidden)),
                        ("mlp.down_proj", (hidden, inner)), ("input_layernorm", (hidden,)),
                        ("post_attention_layernorm", (hidden,))):
        shapes[at + part + ".weight"] = shape
rand, header, data = random.Random(7), {"__metadata__": {"format": "pt"}}, bytearray()
for name, shape in shapes.items():
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    values = [rand.gauss(0, 0.3) if len(shape) == 2 else 1.0 for _ in range(count)]
    if name == "lm_head.weight":  # The ends of text are all but never said, so that answers are long.
        values[257 * hidden:258 * hidden] = [0.0] * hidden
    header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + 4 * count]}
    data += struct.pack(f"<{count}f", *values)
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(out, "model.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
