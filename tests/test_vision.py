"""Vision-language models train, every row of them."""

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from nsr_trl.quickstart.model import build_tokenizer


try:
    from transformers import CLIPImageProcessorPil
except ImportError:  # older transformers
    from transformers import CLIPImageProcessor as CLIPImageProcessorPil

SIDE, PATCH = 16, 8


@pytest.fixture
def llava():
    """A Llava of a few thousand random weights, and its processor: four patches of an image, and a class token."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.image_token, tokenizer.image_token_id = "<image>", tokenizer.convert_tokens_to_ids("<image>")
    template = (
        "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}"
        "{% endif %}{% endfor %}{% endif %}{% endfor %}="
    )
    tokenizer.chat_template = template
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config=LlamaConfig(vocab_size=len(tokenizer), **sizes, pad_token_id=tokenizer.pad_token_id),
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **sizes),
        image_token_index=tokenizer.image_token_id,
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model, processor


@pytest.fixture
def pictures():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    return Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": f"{n}?"}], "image": Image.new("RGB", (20, 20), colour)}
            for n, colour in enumerate(colours)
        ]
    )


@pytest.mark.parametrize(
    "settings", [{"objective": "nsr"}, {"objective": "w_reinforce", "num_iterations": 2}], ids=str
)
def test_a_vision_language_model_trains_every_row_and_says_so(make_trainer, llava, pictures, caplog, settings):
    model, processor = llava
    trainer = make_trainer(
        model=model,
        processing_class=processor,
        train_dataset=pictures,
        reward_funcs=lambda completions, **kwargs: [1.0, 0.0, 0.0, None] * (len(completions) // 4),
        **settings,
    )
    line = "Updates run every row, without compaction, because of images, in a vision-language model."
    assert caplog.text.count(line) == 1
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[0]["signed/correct_ratio"] == 0.25
    assert trainer.state.log_history[0]["signed/undecided_ratio"] == 0.25
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert any("vision" in name for name in moved)  # the gradient came through the images
    assert any("language" in name for name in moved)
    with pytest.raises(ValueError, match="because of images, in a vision-language model; got compact='on'"):
        make_trainer(model=model, processing_class=processor, train_dataset=pictures, compact="on")
