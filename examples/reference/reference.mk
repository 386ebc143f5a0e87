# The reference model from Debian packages, in one command that resumes where it was stopped; see examples/reference/README.md.
#
#   make reference         as shipped: on a GPU, or with FIT= on the CPU, which takes days
#   make reference TRY=1   the same steps with a hundredth of the data, on two cores: a test of the commands, not of the scores
#
# All output is under REFERENCE; `make -n reference` prints the commands.

REFERENCE ?= runs/reference
VERSION ?= 0.14.0
WORKERS ?= $(shell nproc)
ifdef TRY
PART := 100
FIT ?= data.batch_size=32 data.workers=1 optimizer.warmup_steps=2 trainer.steps=8
COMPONENTS := --clips 256 --scene 64 --timestamp 48
GRID := fast
else
PART := 1
FIT ?= trainer.accelerator=gpu trainer.precision=bf16 speed.fused_optimizer=true data.workers=$(WORKERS)
COMPONENTS := --scene 1024 --timestamp 768
GRID := official
endif
VOICES := italp16k itapc16k ca-ona-hts czech-dita czech-krb czech-machac czech-ph kdlpc16k ru suopuhe-lj suopuhe-mv hi-nsk te-nsk
PACKAGES := fluidsynth espeak-ng festival $(VOICES:%=festvox-%)
scaled = $(shell expr $(1) / $(PART))

.PHONY: reference reference-packages reference-gpu

reference: reference-packages reference-gpu $(REFERENCE)/audio/fetched $(REFERENCE)/tasks/built $(REFERENCE)/scores/scores.json
	@echo "reference is done: the package under $(REFERENCE)/dist, its scores in $(REFERENCE)/scores"

# Whatever would otherwise stop the command after hours.

reference-packages:
	@missing=; for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' || missing="$$missing $$package"; \
	done; test -z "$$missing" || { echo "Debian packages are missing; install them: apt-get install$$missing" >&2; exit 2; }

reference-gpu: $(VENV)/installed
	@$(if $(findstring accelerator=gpu,$(FIT)),$(BIN)/python -c "import sys; import torch; sys.exit(None if torch.cuda.is_available() else 'torch finds no GPU; give FIT= to train on the CPU')")

# Fetch, and build the tasks.

$(REFERENCE)/audio/fetched: | reference-packages $(VENV)/installed
	$(BIN)/python -m examples.reference.fetch_audio $(REFERENCE)/audio
	@touch $@

$(REFERENCE)/tasks/built: $(REFERENCE)/audio/fetched
	$(BIN)/python -m examples.reference.build_tasks $(REFERENCE)/audio $(REFERENCE)/tasks
	@touch $@

# Pack and render.

$(REFERENCE)/corpus.jsonl: $(REFERENCE)/audio/fetched | $(VENV)/installed
	$(BIN)/python -m examples.reference.real_corpus $(REFERENCE)/audio $@

$(REFERENCE)/shards/index.json: $(REFERENCE)/corpus.jsonl
	$(BIN)/python -m hear_ssl.data.pack $< --out $(REFERENCE)/shards

$(REFERENCE)/paired/others/index.json: $(REFERENCE)/shards/index.json
	rm -rf $(REFERENCE)/paired
	$(BIN)/python -m hear_ssl.data.pair_recordings $(REFERENCE)/shards --out $(REFERENCE)/paired --except 'asterisk*' '*music*'

$(REFERENCE)/utterances: $(REFERENCE)/corpus.jsonl
	$(BIN)/python -m hear_ssl.synthesis voices --out $@ --words $(call scaled,600) --seed 23 --recordings $< --workers $(WORKERS)

define rendered  # folder, command with its options, what it needs
$(REFERENCE)/$(1)/index.json: $(3) | $(VENV)/installed
	rm -rf $(REFERENCE)/$(1)
	$(BIN)/python $(2) --out $(REFERENCE)/$(1) --workers $(WORKERS)
endef
SPOKEN := -m hear_ssl.synthesis words --rooms 0.4 --voices $(REFERENCE)/utterances
$(eval $(call rendered,synthetic,-m hear_ssl.synthesis instruments --clips $(call scaled,16000) --seed 11))
$(eval $(call rendered,melodies,-m hear_ssl.synthesis instruments --clips $(call scaled,16000) --seed 12 --keep score))
$(eval $(call rendered,strokes,-m hear_ssl.synthesis strokes --clips $(call scaled,20000) --seed 15))
$(eval $(call rendered,recorded,-m hear_ssl.synthesis strokes --clips $(call scaled,40000) --seed 16 --recordings $(REFERENCE)/corpus.jsonl,$(REFERENCE)/corpus.jsonl))
$(eval $(call rendered,voices,$(SPOKEN) --clips $(call scaled,32000) --seed 25 --keep voice,$(REFERENCE)/utterances))
$(eval $(call rendered,spoken,$(SPOKEN) --clips $(call scaled,60000) --seed 24,$(REFERENCE)/utterances))
$(eval $(call rendered,spoken_small,$(SPOKEN) --clips $(call scaled,8000) --seed 24,$(REFERENCE)/utterances))

# Train.

define trained  # run, config, folders of shards, their weights
$(REFERENCE)/$(1)/done: $(foreach shards,$(3),$(REFERENCE)/$(shards)/index.json)
	$$(call fit,$(REFERENCE)/$(1),--config configs/$(2).yaml data.shards=[$(subst $(space),$$(comma),$(foreach shards,$(3),$(REFERENCE)/$(shards)))] data.weights=[$(subst $(space),$$(comma),$(4))] $(FIT))
	@touch $$@
endef
comma := ,
space := $(subst ,, )
$(eval $(call trained,pitch,reference,melodies,1))
$(eval $(call trained,percussion,reference_strokes,strokes recorded paired/others synthetic,2 4 1 1))
$(eval $(call trained,voice,reference_voices,voices,1))
$(eval $(call trained,word,reference_words,spoken,1))
ENCODERS := $(REFERENCE)/pitch $(REFERENCE)/percussion $(REFERENCE)/voice $(REFERENCE)/word

$(REFERENCE)/concatenated/checkpoints/last.ckpt: $(ENCODERS:=/done)
	$(BIN)/python -m examples.reference.combine $(ENCODERS) --random --level 1 2 2 2 3 --timestamp-encoders 3 --out $@

FITTED := shards synthetic strokes recorded spoken_small
$(REFERENCE)/model/checkpoints/last.ckpt: $(REFERENCE)/concatenated/checkpoints/last.ckpt $(foreach shards,$(FITTED),$(REFERENCE)/$(shards)/index.json)
	$(BIN)/python -m examples.reference.reduce $(REFERENCE)/concatenated --shards $(FITTED:%=$(REFERENCE)/%) --weights 3 2 1 1 2 --timestamp-level 1 1 1 $(COMPONENTS) --out $@

# Export and evaluate.

$(REFERENCE)/dist/packed: $(REFERENCE)/model/checkpoints/last.ckpt
	rm -rf $(REFERENCE)/dist
	$(BIN)/python export/package.py --checkpoint $(REFERENCE)/model --name hear_reference --version $(VERSION) \
	  --weights-url https://example.com/hear_reference-$(VERSION).safetensors --bundle-weights --allow-unpublished --half --out $(REFERENCE)/dist
	@touch $@

$(REFERENCE)/scores/scores.json: $(REFERENCE)/dist/packed $(REFERENCE)/tasks/built
	$(BIN)/python -m hear_ssl.evaluate --module $(REFERENCE)/model --tasks $(REFERENCE)/tasks --out $(REFERENCE)/scores --grid $(GRID)
