# Completion for bash: source <(cutaway completion bash)

_cutaway() {
    local current=${COMP_WORDS[COMP_CWORD]} candidate
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    local -a rejoined=()
    # bash splits words at '=' and ':'; what was typed as one is handed over as one
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cur cword
        _get_comp_words_by_ref -n =: cur words cword
        current=$cur words=("${words[@]:1:cword}")
    fi
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
            :files) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
            :directories) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$current") ;;
            *) COMPREPLY+=("$candidate") ;;
        esac
    done < <(cutaway __complete -- "${words[@]}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$current"
    fi
}

complete -F _cutaway cutaway
