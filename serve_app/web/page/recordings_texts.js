/** The texts of the page of recordings, beside those that it shares with the live page. */
import { TEXTS } from "./texts.js";

const MORE = {
  en: {
    live: "Live", send: "Send recordings", purpose: "To",
    toTranscribe: "transcribe them", toKeep: "keep them", choose: "Choose files", jobs: "Jobs", clips: "Kept recordings",
    older: "Older", made: "Sent", name: "File", state: "State", actions: "Actions", show: "Text", remove: "Delete",
    length: "Length", format: "Format", size: "Size", until: "Kept until", again: "Transcribe", none: "None.",
    nothingKept: "This server keeps no recordings: it transcribes them at once or live.",
    noKey: "Without a key there is nothing to show. Reload to enter one.", notAllowed: "This key has not the scope recordings.",
    trouble: "The server says: {message}", sending: "Sending {name}", sent: "{name} was sent.", stopped: "{name} was not sent.",
    shownText: "The text of {name}.", queued: "waiting", runs: "at work", finished: "done", wrong: "failed", cancelled: "cancelled",
  },
  de: {
    live: "Live", send: "Aufnahmen senden", purpose: "Um sie zu",
    toTranscribe: "transkribieren", toKeep: "aufzubewahren", choose: "Dateien wählen", jobs: "Aufträge", clips: "Aufbewahrte Aufnahmen",
    older: "Ältere", made: "Gesendet", name: "Datei", state: "Zustand", actions: "Aktionen", show: "Text", remove: "Löschen",
    length: "Länge", format: "Format", size: "Größe", until: "Aufbewahrt bis", again: "Transkribieren", none: "Keine.",
    nothingKept: "Dieser Server bewahrt keine Aufnahmen auf: er transkribiert sie sofort oder live.",
    noKey: "Ohne Schlüssel gibt es nichts zu zeigen. Zum Eingeben neu laden.", notAllowed: "Dieser Schlüssel hat den Bereich recordings nicht.",
    trouble: "Der Server meldet: {message}", sending: "{name} wird gesendet", sent: "{name} wurde gesendet.", stopped: "{name} wurde nicht gesendet.",
    shownText: "Der Text von {name}.", queued: "wartet", runs: "in Arbeit", finished: "fertig", wrong: "gescheitert", cancelled: "abgebrochen",
  },
  pt: {
    live: "Ao vivo", send: "Enviar gravações", purpose: "Para as",
    toTranscribe: "transcrever", toKeep: "guardar", choose: "Escolher ficheiros", jobs: "Tarefas", clips: "Gravações guardadas",
    older: "Mais antigas", made: "Enviado", name: "Ficheiro", state: "Estado", actions: "Ações", show: "Texto", remove: "Apagar",
    length: "Duração", format: "Formato", size: "Tamanho", until: "Guardado até", again: "Transcrever", none: "Nada.",
    nothingKept: "Este servidor não guarda gravações: transcreve-as de imediato ou ao vivo.",
    noKey: "Sem chave não há nada a mostrar. Recarregue para introduzir uma.", notAllowed: "Esta chave não tem o âmbito recordings.",
    trouble: "O servidor diz: {message}", sending: "A enviar {name}", sent: "{name} foi enviado.", stopped: "{name} não foi enviado.",
    shownText: "O texto de {name}.", queued: "em espera", runs: "em curso", finished: "pronto", wrong: "falhou", cancelled: "cancelado",
  },
  es: {
    live: "En vivo", send: "Enviar grabaciones", purpose: "Para",
    toTranscribe: "transcribirlas", toKeep: "guardarlas", choose: "Elegir archivos", jobs: "Trabajos", clips: "Grabaciones guardadas",
    older: "Más antiguas", made: "Enviado", name: "Archivo", state: "Estado", actions: "Acciones", show: "Texto", remove: "Borrar",
    length: "Duración", format: "Formato", size: "Tamaño", until: "Guardado hasta", again: "Transcribir", none: "Nada.",
    nothingKept: "Este servidor no guarda grabaciones: las transcribe al momento o en vivo.",
    noKey: "Sin clave no hay nada que mostrar. Recargue para introducir una.", notAllowed: "Esta clave no tiene el ámbito recordings.",
    trouble: "El servidor dice: {message}", sending: "Enviando {name}", sent: "{name} se ha enviado.", stopped: "{name} no se ha enviado.",
    shownText: "El texto de {name}.", queued: "en espera", runs: "en curso", finished: "listo", wrong: "fallido", cancelled: "cancelado",
  },
  fr: {
    live: "En direct", send: "Envoyer des enregistrements", purpose: "Pour les",
    toTranscribe: "transcrire", toKeep: "conserver", choose: "Choisir des fichiers", jobs: "Tâches", clips: "Enregistrements conservés",
    older: "Plus anciens", made: "Envoyé", name: "Fichier", state: "État", actions: "Actions", show: "Texte", remove: "Supprimer",
    length: "Durée", format: "Format", size: "Taille", until: "Conservé jusqu’au", again: "Transcrire", none: "Aucun.",
    nothingKept: "Ce serveur ne conserve pas d’enregistrements : il les transcrit aussitôt ou en direct.",
    noKey: "Sans clé, il n’y a rien à montrer. Rechargez pour en saisir une.", notAllowed: "Cette clé n’a pas la portée recordings.",
    trouble: "Le serveur dit : {message}", sending: "Envoi de {name}", sent: "{name} a été envoyé.", stopped: "{name} n’a pas été envoyé.",
    shownText: "Le texte de {name}.", queued: "en attente", runs: "en cours", finished: "terminé", wrong: "échoué", cancelled: "annulé",
  },
};

for (const [code, texts] of Object.entries(MORE)) Object.assign(TEXTS[code], texts);
