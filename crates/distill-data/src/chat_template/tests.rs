use super::*;

const ADD: GenerationPrompt = GenerationPrompt::Add;
const OMIT: GenerationPrompt = GenerationPrompt::Omit;

/// As SmolLM2's: a system message of its own if there is none.
const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// In the style of Llama 3: blocks on lines of their own, trimmed contents, a refusal.
const HEADERS: &str = "{{- bos_token }}
{%- if date is not defined %}
    {%- set date = 'today' %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'].strip() %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|header|>system<|end|>\n\n' + date + '\n' + system + '<|eot|>' }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'tool'] %}
        {{- raise_exception('no role `' + message.role + '` here') }}
    {%- endif %}
    {{- '<|header|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant<|end|>\n\n' }}
{%- endif %}
";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, vec![("bos_token".to_owned(), "<s>".to_owned())]).unwrap()
}

fn messages(of: &[(&str, &str)]) -> Vec<Message> {
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::Tool,
    };
    of.iter().map(|(name, content)| Message::new(role(name), *content)).collect()
}

fn conversation() -> Vec<Message> {
    messages(&[("user", " Hi <b>"), ("assistant", "Yes?\n"), ("user", "\u{e9}"), ("assistant", "So so.")])
}

fn answers(source: &str, messages: &[Message]) -> Vec<String> {
    let (text, spans) = template(source).render_answers(messages).unwrap();
    assert_eq!(text, template(source).render(messages, OMIT).unwrap());
    spans.into_iter().map(|span| text[span].to_owned()).collect()
}

// The texts that Transformers 5.23 renders of the same.
#[test]
fn chat_ml_as_transformers() {
    assert_eq!(
        template(CHATML).render(&conversation(), ADD).unwrap(),
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi <b><|im_end|>\n\
         <|im_start|>assistant\nYes?\n<|im_end|>\n<|im_start|>user\n\u{e9}<|im_end|>\n\
         <|im_start|>assistant\nSo so.<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(answers(CHATML, &conversation()), ["Yes?\n<|im_end|>\n", "So so.<|im_end|>\n"]);
}

#[test]
fn headers_as_transformers() {
    let mut all = messages(&[("system", " Short.\n")]);
    all.extend(conversation());
    assert_eq!(
        template(HEADERS).render(&all, OMIT).unwrap(),
        "<s><|header|>system<|end|>\n\ntoday\nShort.<|eot|><|header|>user<|end|>\n\nHi <b><|eot|>\
         <|header|>assistant<|end|>\n\nYes?<|eot|><|header|>user<|end|>\n\n\u{e9}<|eot|>\
         <|header|>assistant<|end|>\n\nSo so.<|eot|>"
    );
    assert!(template(HEADERS).render(&all[..2], ADD).unwrap().ends_with("assistant<|end|>\n\n"));
    assert_eq!(answers(HEADERS, &all), ["Yes?<|eot|>", "So so.<|eot|>"]);
}

#[test]
fn a_refusal_is_told_in_the_templates_words() {
    let error = template(HEADERS).render(&messages(&[("user", "a"), ("system", "b")]), OMIT).unwrap_err();
    assert_eq!(error.to_string(), "the chat template refuses the conversation: no role `system` here");
    let error = template("{{ messages[0].content.frobnicate() }}").render(&conversation(), OMIT).unwrap_err();
    assert!(error.to_string().contains("frobnicate"), "{error}");
    let error = ChatTemplate::new("{% if %}", Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("the chat template cannot be read: syntax error"), "{error}");
}

#[test]
fn a_template_without_a_generation_prompt_is_searched_for_the_content() {
    let source = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}</s>\n{% endfor %}";
    assert_eq!(answers(source, &conversation()), ["Yes?</s>\n", "So so.</s>\n"]);
    let first = messages(&[("assistant", "Hello."), ("user", "Hi."), ("assistant", "Hello.")]);
    assert_eq!(answers(source, &first), ["Hello.</s>\n", "Hello.</s>\n"]);
    assert_eq!(answers(CHATML, &first), ["Hello.<|im_end|>\n", "Hello.<|im_end|>\n"]);
}

#[test]
fn a_template_that_renders_earlier_messages_anew_is_refused() {
    let source = "{% for m in messages %}{{ m.role }}:{{ m.content if loop.last else '...' }};{% endfor %}\
                  {% if add_generation_prompt %}assistant:{% endif %}";
    let error = template(source).render_answers(&conversation()).unwrap_err();
    assert!(matches!(error, ChatTemplateError::NotIncremental { number: 2 }), "{error}");
}

#[test]
fn generation_tags_have_no_effect() {
    let with = |open: &str, close: &str| {
        let source = format!(
            "{{% for m in messages %}}\n  {open}\n  {{{{ m.content }}}}\n  {close}\n  .{{% endfor %}}"
        );
        template(&source).render(&conversation()[..2], OMIT).unwrap()
    };
    // As Transformers renders it.
    assert_eq!(with("{% generation %}", "{% endgeneration %}"), "   Hi <b>\n  .  Yes?\n\n  .");
    assert_eq!(with("{%- generation -%}", "{%- endgeneration -%}"), " Hi <b>.Yes?\n.");
}

#[test]
fn constants_are_printed_as_python_has_them() {
    let source = "{{ add_generation_prompt }} {{ tools }} {{ undefined }}|{{ messages[0] | tojson }}";
    assert_eq!(
        template(source).render(&conversation(), OMIT).unwrap(),
        "False None |{\"role\": \"user\", \"content\": \" Hi <b>\"}"
    );
}

#[test]
fn methods_and_loop_controls() {
    let source = "{%- for m in messages %}
        {%- if loop.index0 == 2 %}{% break %}{% endif %}
        {%- if m.content.startswith(' ') %}{% continue %}{% endif %}
        {{- m.content.split('?')[0].upper() ~ m.content.rstrip('\n').split('s')[-1] }}
    {%- endfor %}
    {%- set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + m.content|length %}{% endfor %}{{ ns.n }}";
    assert_eq!(template(source).render(&conversation(), OMIT).unwrap(), "YES?19");
}
