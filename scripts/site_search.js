// Ranks what the search of the site finds. scripts/site_pages.py puts it before the worker of the theme, as the function
// that it calls with {unasked, same, pages, ranks}: see docs/search.yaml.
//
// The theme ranks sections, by words as they are spelled. Here a page counts as a whole: the more of the asked words it
// has and the rarer they are, the better, most of all in its title; words count by their stems, and synonyms nearly as
// much.
(known) => {
  const weights = { title: 16, known: 6, about: 4, heads: 3, text: 1 }
  const synonymCounts = 0.5
  const pairCounts = 0.5
  const unasked = new Set(known.unasked)
  const listen = self.addEventListener.bind(self)
  const post = self.postMessage.bind(self)
  const pages = new Map() // page: stem: how much the page is about it
  const pagesWith = new Map() // stem: number of pages
  const synonyms = new Map() // stem: stems
  let asked // the words of the question; undefined if it is in the language of the theme's search

  const plain = (html) => html.replace(/<[^>]*>|&\w+;/g, ' ')
  const words = (text) =>
    plain(text)
      .toLowerCase()
      .replace(/\b(log|sign)(ged|ed|ging|ing)?[ -]in\b/g, 'login')
      .match(/[a-z0-9]+/g) ?? []
  const stem = (word) => self.lunr.stemmer(new self.lunr.Token(word)).toString()
  /** The stems of words that may be asked for, and of each pair of neighbours. */
  const terms = (found) => {
    const single = found.filter((word) => !unasked.has(word)).map(stem)
    return [...single, ...single.slice(1).map((word, at) => `${single[at]} ${word}`)]
  }

  /** What each page is about: a word counts by where it stands, and less in a long field. */
  function learn(sections) {
    const fields = new Map()
    for (const { location, title, text } of sections) {
      const [page, section] = location.split('#')
      const told = known.pages[page] ?? {}
      if (!fields.has(page))
        fields.set(page, {
          title: [],
          known: words(told.known ?? ''),
          about: words(told.about ?? ''),
          heads: [],
          text: [],
        })
      fields.get(page)[section ? 'heads' : 'title'].push(...words(title))
      fields.get(page).text.push(...words(text))
    }
    for (const name in weights) {
      const usual = [...fields.values()].reduce((sum, field) => sum + field[name].length, 0) / fields.size
      for (const [page, field] of fields) {
        if (!pages.has(page)) pages.set(page, new Map())
        const found = pages.get(page)
        const counts = name === 'known' ? weights[name] : weights[name] / (0.5 + (0.5 * field[name].length) / usual)
        for (const word of name === 'text' ? field[name].map(stem) : terms(field[name]))
          found.set(word, (found.get(word) ?? 0) + counts)
      }
    }
    for (const found of pages.values())
      for (const word of found.keys()) pagesWith.set(word, (pagesWith.get(word) ?? 0) + 1)
    for (const group of known.same.map((names) => names.map(stem)))
      for (const word of group)
        synonyms.set(word, [...(synonyms.get(word) ?? []), ...group.filter((one) => one !== word)])
  }

  function score(page) {
    const found = pages.get(page)
    const worth = (word) => {
      const much = found.get(word) ?? 0
      return (Math.log(1 + pages.size / ((pagesWith.get(word) ?? 0) + 0.5)) * much) / (12 + much)
    }
    const best = (word) => Math.max(worth(word), ...(synonyms.get(word) ?? []).map((one) => synonymCounts * worth(one)))
    const total = [...new Set(terms(asked))].reduce(
      (sum, term) => sum + best(term) * (term.includes(' ') ? pairCounts : 1),
      0,
    )
    return total * (known.ranks[page] ?? 1)
  }

  /** The question without the words that no answer need have, with the stems and synonyms of the others. */
  function widen(question) {
    asked = /["+:^~*]/.test(question) ? undefined : words(question).filter((word) => !unasked.has(word))
    if (!asked?.length) return question
    const more = asked.map(stem).flatMap((word) => [word, ...(synonyms.get(word) ?? [])])
    return [...new Set([...asked, ...more])].join(' ')
  }

  /** The best page first; of each section, whether it has the words that were asked, not those that were added. */
  function rank(groups) {
    if (!asked?.length) return groups
    const has = (terms, word) =>
      Object.keys(terms).some((term) => terms[term] && (term === word || term.startsWith(stem(word))))
    for (const section of groups.flat())
      section.terms = Object.fromEntries(asked.map((word) => [word, has(section.terms, word)]))
    const scores = new Map(groups.map((group) => [group, score(group[0].location.split('#')[0])]))
    return groups.sort((one, other) => scores.get(other) - scores.get(one))
  }

  self.addEventListener = (type, told) =>
    listen(type, (event) => {
      if (event.data.type === 0) learn(event.data.data.docs)
      return told(event.data.type === 2 ? { data: { type: 2, data: widen(event.data.data) } } : event)
    })
  self.postMessage = (message) =>
    post(message.type === 3 ? { ...message, data: { ...message.data, items: rank(message.data.items) } } : message)
}
