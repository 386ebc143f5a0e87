# The reference model from Debian packages, in one command that resumes where it was stopped; see examples/reference/README.md.
#
#   make reference         as shipped: on a GPU, or with FIT= on the CPU in days
#   make reference TRY=1   the same steps with a hundredth of the data, on two cores: a test of the commands, not of the scores
#
# All output is under WAY; `make -n reference` prints the commands.

WAY ?= runs/reference
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
some = $(shell expr $(1) / $(PART))

.PHONY: reference reference-packages reference-gpu

reference: reference-packages reference-gpu $(WAY)/audio/fetched $(WAY)/tasks/built $(WAY)/scores/scores.json
	@echo "reference is done: the package under $(WAY)/dist, its scores in $(WAY)/scores"

# Whatever would otherwise stop the command after hours.

reference-packages:
	@missing=; for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' || missing="$$missing $$package"; \
	done; test -z "$$missing" || { echo "Debian packages are missing; install them: apt-get install$$missing" >&2; exit 2; }

reference-gpu: $(VENV)/installed
	@$(if $(findstring accelerator=gpu,$(FIT)),$(BIN)/python -c "import sys; import torch; sys.exit(None if torch.cuda.is_available() else 'torch finds no GPU; give FIT= to train on the CPU')")

# Fetch, and build the tasks.

$(WAY)/audio/fetched: | reference-packages $(VENV)/installed
	$(BIN)/python -m examples.reference.fetch_audio $(WAY)/audio
	@touch $@

$(WAY)/tasks/built: $(WAY)/audio/fetched
	$(BIN)/python -m examples.reference.build_tasks $(WAY)/audio $(WAY)/tasks
	@touch $@

# Pack and render.

$(WAY)/corpus.jsonl: $(WAY)/audio/fetched | $(VENV)/installed
	$(BIN)/python -m examples.reference.real_corpus $(WAY)/audio $@

$(WAY)/shards/index.json: $(WAY)/corpus.jsonl
	$(BIN)/python -m hear_ssl.data.pack $< --out $(WAY)/shards

$(WAY)/paired/others/index.json: $(WAY)/shards/index.json
	rm -rf $(WAY)/paired
	$(BIN)/python -m hear_ssl.data.pair_recordings $(WAY)/shards --out $(WAY)/paired --except 'asterisk*' '*music*'

$(WAY)/said: $(WAY)/corpus.jsonl
	$(BIN)/python -m hear_ssl.synthesis voices --out $@ --words $(call some,600) --seed 23 --recordings $< --workers $(WORKERS)

define rendered  # folder, command with its options, what it needs
$(WAY)/$(1)/index.json: $(3) | $(VENV)/installed
	rm -rf $(WAY)/$(1)
	$(BIN)/python $(2) --out $(WAY)/$(1) --workers $(WORKERS)
endef
SPOKEN := -m hear_ssl.synthesis words --rooms 0.4 --voices $(WAY)/said
$(eval $(call rendered,synthetic,-m hear_ssl.synthesis instruments --clips $(call some,16000) --seed 11))
$(eval $(call rendered,melodies,-m hear_ssl.synthesis instruments --clips $(call some,16000) --seed 12 --keep score))
$(eval $(call rendered,strokes,-m hear_ssl.synthesis strokes --clips $(call some,20000) --seed 15))
$(eval $(call rendered,recorded,-m hear_ssl.synthesis strokes --clips $(call some,40000) --seed 16 --recordings $(WAY)/corpus.jsonl,$(WAY)/corpus.jsonl))
$(eval $(call rendered,voices,$(SPOKEN) --clips $(call some,32000) --seed 25 --keep voice,$(WAY)/said))
$(eval $(call rendered,spoken,$(SPOKEN) --clips $(call some,60000) --seed 24,$(WAY)/said))
$(eval $(call rendered,fewer,$(SPOKEN) --clips $(call some,8000) --seed 24,$(WAY)/said))

# Train.

define trained  # run, config, folders of shards, their weights
$(WAY)/$(1)/done: $(foreach shards,$(3),$(WAY)/$(shards)/index.json)
	$$(call fit,$(WAY)/$(1),--config configs/$(2).yaml data.shards=[$(subst $(space),$$(comma),$(foreach shards,$(3),$(WAY)/$(shards)))] data.weights=[$(subst $(space),$$(comma),$(4))] $(FIT))
	@touch $$@
endef
comma := ,
space := $(subst ,, )
$(eval $(call trained,pitch,reference,melodies,1))
$(eval $(call trained,struck,reference_strokes,strokes recorded paired/others synthetic,2 4 1 1))
$(eval $(call trained,voice,reference_voices,voices,1))
$(eval $(call trained,word,reference_words,spoken,1))
TOWERS := $(WAY)/pitch $(WAY)/struck $(WAY)/voice $(WAY)/word

$(WAY)/towers/checkpoints/last.ckpt: $(TOWERS:=/done)
	$(BIN)/python -m examples.reference.combine $(TOWERS) --random --level 1 2 2 2 3 --timestamp-encoders 3 --out $@

FITTED := shards synthetic strokes recorded fewer
$(WAY)/model/checkpoints/last.ckpt: $(WAY)/towers/checkpoints/last.ckpt $(foreach shards,$(FITTED),$(WAY)/$(shards)/index.json)
	$(BIN)/python -m examples.reference.whiten $(WAY)/towers --shards $(FITTED:%=$(WAY)/%) --weights 3 2 1 1 2 --timestamp-level 1 1 1 $(COMPONENTS) --out $@

# Export and evaluate.

$(WAY)/dist/packed: $(WAY)/model/checkpoints/last.ckpt
	rm -rf $(WAY)/dist
	$(BIN)/python export/package.py --checkpoint $(WAY)/model --name hear_reference --version $(VERSION) \
	  --weights-url https://example.com/hear_reference-$(VERSION).safetensors --bundle-weights --allow-unpublished --half --out $(WAY)/dist
	@touch $@

$(WAY)/scores/scores.json: $(WAY)/dist/packed $(WAY)/tasks/built
	$(BIN)/python -m hear_ssl.evaluate --module $(WAY)/model --tasks $(WAY)/tasks --out $(WAY)/scores --grid $(GRID)
